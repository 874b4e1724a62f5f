#include "graph/edges.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace netassay::graph {

void sort_descending(std::vector<Edge>& edges) {
  constexpr std::size_t kFew = 256;
  if (edges.size() < kFew) {
    std::stable_sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.key > b.key; });
    return;
  }
  // radix sort of the distance from the largest key, from its lowest digit to its highest
  constexpr int kBits = 11;
  constexpr std::size_t kDigits = std::size_t{1} << kBits;
  const auto [low, high] =
      std::minmax_element(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.key < b.key; });
  const std::uint64_t top = high->key;
  const int width = std::bit_width(top - low->key);
  std::vector<Edge> other(edges.size());
  for (int shift = 0; shift < width; shift += kBits) {
    const auto digit = [&](const Edge& e) { return (top - e.key) >> shift & (kDigits - 1); };
    std::array<std::size_t, kDigits> place{};
    for (const Edge& e : edges) ++place[digit(e)];
    std::size_t before = 0;
    for (std::size_t& p : place) before += std::exchange(p, before);
    for (const Edge& e : edges) other[place[digit(e)]++] = e;
    edges.swap(other);
  }
}

}  // namespace netassay::graph
