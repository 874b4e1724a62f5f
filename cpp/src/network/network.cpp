#include "netassay/network.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "network/counts.hpp"
#include "network/power.hpp"

namespace netassay {
namespace {

constexpr int kLowest = -24, kHighest = 8, kOctave = 8;
constexpr std::size_t kSide = std::size_t{(kHighest - kLowest) * kOctave} + 1;

std::array<double, 2 * kSide + 2> grid() {
  std::array<double, 2 * kSide + 2> edges{};
  for (std::size_t k = 0; k < kSide; ++k) {
    const int octave = static_cast<int>(k) / kOctave, step = static_cast<int>(k) % kOctave;
    const double edge = std::ldexp(1 + static_cast<double>(step) / kOctave, kLowest + octave);
    edges[kSide + 1 + k] = edge;
    edges[kSide - k] = -edge;
  }
  edges.front() = -std::numeric_limits<double>::infinity();
  edges.back() = std::numeric_limits<double>::infinity();
  return edges;
}

/// Bins of one key, of whatever format, become one; between them the order is by low, then high.
std::vector<LinkBin> joined(const std::vector<LinkBin>& a, const std::vector<LinkBin>& b) {
  std::vector<LinkBin> out;
  out.reserve(a.size() + b.size());
  const auto less = [](const LinkBin& x, const LinkBin& y) { return x.low != y.low ? x.low < y.low : x.high < y.high; };
  auto left = a.begin(), right = b.begin();
  while (left != a.end() && right != b.end()) {
    if (less(*left, *right)) {
      out.push_back(*left++);
    } else if (less(*right, *left)) {
      out.push_back(*right++);
    } else {
      out.push_back({left->low, left->high, left->count + right->count});
      ++left, ++right;
    }
  }
  out.insert(out.end(), left, a.end());
  out.insert(out.end(), right, b.end());
  return out;
}

/// The link that `rank` links are less than, or as it lies in its bin.
double order_statistic(const LinkStatistics& of, std::uint64_t rank) {
  if (rank == 0) return of.minimum;
  if (rank + 1 == of.count) return of.maximum;
  std::uint64_t below = 0;
  for (const LinkBin& bin : of.bins) {
    if (rank < below + bin.count) {
      const double low = std::max(bin.low, of.minimum), high = std::min(bin.high, of.maximum);
      if (low == high) return low;
      const double share = (static_cast<double>(rank - below) + 0.5) / static_cast<double>(bin.count);
      return low * (1 - share) + high * share;
    }
    below += bin.count;
  }
  return of.maximum;
}

}  // namespace

void LinkStatistics::merge(const LinkStatistics& other) {
  if (other.count == 0) return;
  network::Central sums = network::central(*this);
  sums.merge(network::central(other));
  bins = joined(bins, other.bins);
  density.resize(other.density.size());
  std::transform(density.begin(), density.end(), other.density.begin(), density.begin(), std::plus<>());
  count += other.count;
  zeros += other.zeros;
  minimum = std::min(minimum, other.minimum);
  maximum = std::max(maximum, other.maximum);
  network::store(sums, *this);
}

double LinkStatistics::mean() const { return std::ldexp(scaled_mean, exponent); }

double LinkStatistics::variance() const {
  return minimum < maximum ? std::ldexp(second / static_cast<double>(count), 2 * exponent) : 0;
}

double LinkStatistics::skewness() const {
  if (!(minimum < maximum)) return 0;
  return std::sqrt(static_cast<double>(count) / second) * (third / second);
}

double LinkStatistics::kurtosis() const {
  if (!(minimum < maximum)) return 0;
  return static_cast<double>(count) / second * (fourth / second) - 3;
}

double LinkStatistics::quantile(double q) const {
  NETASSAY_REQUIRE(q >= 0 && q <= 1, ValueError, "quantile: got ", q, ", expected a share from 0 to 1");
  NETASSAY_REQUIRE(count > 0, TooFewRows, "quantile: got no links, expected at least one");
  const double at = q * static_cast<double>(count - 1);
  const auto rank = std::min(static_cast<std::uint64_t>(at), count - 1);
  const double share = at - static_cast<double>(rank);
  const double below = order_statistic(*this, rank);
  if (share == 0) return below;
  const double above = order_statistic(*this, rank + 1);
  return below == above ? below : below * (1 - share) + above * share;
}

std::span<const double> link_grid() {
  static const auto edges = grid();
  return edges;
}

std::vector<std::uint64_t> network::density(std::span<const LinkBin> bins) {
  const std::span<const double> edges = link_grid();
  std::vector<std::uint64_t> counts(edges.size() - 1);
  const auto above = edges.begin() + static_cast<index_t>(kSide) + 1;  // the first edge above zero
  for (const LinkBin& bin : bins) {
    const bool negative = bin.high <= 0 && bin.low < 0;
    const double magnitude = negative ? -bin.high : std::max(bin.low, 0.0);
    const auto steps = std::upper_bound(above, edges.end(), magnitude) - above;
    const auto centre = static_cast<index_t>(kSide);  // between the edges about zero
    counts[static_cast<std::size_t>(negative ? centre - steps : centre + steps)] += bin.count;
  }
  return counts;
}

}  // namespace netassay
