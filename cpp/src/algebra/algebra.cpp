#include "netassay/algebra.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace netassay {
namespace {

constexpr index_t kMost = index_t{1} << 50;
/// Where Stirling's series, cut after x^-5, leaves less than 1e-18: its next term is x^-7 / 1680.
constexpr index_t kStirling = 128;

/// ln x! - (x + 1/2) ln x + x - ln(2 pi) / 2.
double stirling_rest(double x) {
  const double y = 1 / (x * x);
  return (1.0 / 12 - y * (1.0 / 360 - y * y / 1260)) / x;
}

/// log2 C(n, k), 0 <= k <= n / 2. Every term that is large is positive: n ln n - k ln k - m ln m, m = n - k, is
/// k ln(n / k) - m ln(1 - k / n).
double log2_binomial(index_t n, index_t k) {
  if (k < kStirling) {
    double sum = 0;
    for (index_t j = 1; j <= k; ++j) sum += std::log2(static_cast<double>(n - k + j) / static_cast<double>(j));
    return sum;
  }
  const double whole = static_cast<double>(n), part = static_cast<double>(k), rest = whole - part;
  const double entropy = part * std::log(whole / part) - rest * std::log1p(-part / whole);
  const double width = std::log(2 * std::numbers::pi * part * (rest / whole)) / 2;
  const double series = stirling_rest(whole) - stirling_rest(part) - stirling_rest(rest);
  return (entropy - width + series) / std::numbers::ln2;
}

/// S(n, k) / C(n, k), k < n / 2: 1 + k / (n - k + 1) (1 + (k - 1) / (n - k + 2) (1 + ...)).
double terms_below(index_t n, index_t k) {
  double term = 1, sum = 1;
  for (index_t j = k; j > 0; --j) {
    const double count = static_cast<double>(j), of = static_cast<double>(n - j + 1);
    term *= count / of;
    sum += term;
    // what is still to come is below term r / (1 - r), r the ratio of this step
    if (term * count < 0x1p-60 * sum * (of - count)) break;
  }
  return sum;
}

}  // namespace

double log2_binomial_sum(index_t n, index_t k) {
  NETASSAY_REQUIRE(n >= 0 && k >= 0 && n <= kMost, ValueError, "log2_binomial_sum: got n = ", n, " and k = ", k,
                   ", expected 0 <= n <= 2^50 and k not below 0");
  if (k >= n) return static_cast<double>(n);
  if (2 * k < n - 1) return log2_binomial(n, k) + std::log2(terms_below(n, k));
  if (2 * k == n - 1) return static_cast<double>(n - 1);
  const double whole = static_cast<double>(n);
  return whole + std::log1p(-std::exp2(log2_binomial_sum(n, n - k - 1) - whole)) / std::numbers::ln2;
}

double log2_montufar_bound(std::span<const index_t> widths) {
  constexpr const char* kName = "log2_montufar_bound";
  NETASSAY_REQUIRE(widths.size() >= 2, ShapeError, kName, ": got ", widths.size(),
                   " widths, expected inputs and at least one layer");
  double sum = 0;
  index_t least = widths.front();
  for (std::size_t l = 0; l < widths.size(); ++l) {
    NETASSAY_REQUIRE(widths[l] >= 1 && widths[l] <= kMost, ValueError, kName, ": got a width of ", widths[l],
                     ", expected 1 to 2^50");
    least = std::min(least, widths[l]);
    if (l > 0) sum += log2_binomial_sum(widths[l], least);
  }
  return sum;
}

}  // namespace netassay
