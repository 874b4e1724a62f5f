#include "graph/edges.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <span>
#include <utility>

namespace netassay::graph {

std::vector<Edge> sort_descending(const std::vector<std::vector<Edge>>& parts) {
  std::size_t count = 0;
  std::uint64_t top = 0, low = ~std::uint64_t{0};
  for (const auto& part : parts) {
    count += part.size();
    for (const Edge& e : part) {
      top = std::max(top, e.key);
      low = std::min(low, e.key);
    }
  }
  // a radix sort of the distance from the largest key, from its lowest digit to its highest
  constexpr int kBits = 11;
  constexpr std::size_t kDigits = std::size_t{1} << kBits;
  std::vector<Edge> edges(count), other;
  const auto spread = [&](const auto& sources, std::vector<Edge>& target, int shift) {
    const auto digit = [&](const Edge& e) { return (top - e.key) >> shift & (kDigits - 1); };
    std::array<std::size_t, kDigits> place{};
    for (const auto& source : sources) {
      for (const Edge& e : source) ++place[digit(e)];
    }
    std::size_t before = 0;
    for (std::size_t& p : place) before += std::exchange(p, before);
    for (const auto& source : sources) {
      for (const Edge& e : source) target[place[digit(e)]++] = e;
    }
  };
  spread(parts, edges, 0);
  const int width = count > 0 ? static_cast<int>(std::bit_width(top - low)) : 0;
  for (int shift = kBits; shift < width; shift += kBits) {
    other.resize(count);
    spread(std::span(&edges, 1), other, shift);
    edges.swap(other);
  }
  return edges;
}

}  // namespace netassay::graph
