#include "netassay/persistence.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "persistence/norm.hpp"

namespace netassay {
namespace {

using persistence::power;
using persistence::root;
using persistence::Sum;

double divide(double weight, double scale, bool single) {
  if (weight == 0) return 0;
  return single ? static_cast<double>(static_cast<float>(weight) / static_cast<float>(scale)) : weight / scale;
}

void check(std::span<const double> tree, std::size_t m, std::size_t n, double scale,
           const PersistenceOptions& options) {
  constexpr const char* kName = "neural_persistence";
  NETASSAY_REQUIRE(m > 0 && n > 0 && tree.size() + 1 == m + n, ShapeError, kName, ": got ", tree.size(),
                   " tree weights of ", m, " rows and ", n, " columns, expected rows + columns - 1");
  NETASSAY_REQUIRE(options.p > 0 && std::isfinite(options.p), ValueError, kName, ": got p=", options.p,
                   ", expected a finite number above 0");
  const double largest = tree.front();
  const bool covers = options.single ? static_cast<float>(scale) >= static_cast<float>(largest) : scale >= largest;
  NETASSAY_REQUIRE(std::isfinite(scale) && covers, ValueError, kName, ": got scale=", scale,
                   ", expected a finite number not below the largest weight, ", largest);
}

}  // namespace

NeuralPersistence neural_persistence(std::span<const double> tree, std::span<const double> row_max,
                                     std::span<const double> col_max, double scale, const PersistenceOptions& options) {
  check(tree, row_max.size(), col_max.size(), scale, options);
  const double p = options.p;
  const auto scaled = [&](double weight) { return divide(weight, scale, options.single); };

  NeuralPersistence out{};
  out.scale = scale;
  out.zero = tree.front() == 0;
  out.weights.resize(tree.size());
  std::transform(tree.begin(), tree.end(), out.weights.begin(), scaled);
  Sum lifetimes, bound;
  if (options.essential) lifetimes.add(1);
  for (const double w : out.weights) lifetimes.add(power(1 - w, p));
  for (const double r : row_max) bound.add(power(1 - scaled(r), p));
  for (const double c : col_max) bound.add(power(1 - scaled(c), p));
  bound.add(-power(1 - out.weights.front(), p));

  out.total = root(lifetimes.value(), p);
  out.normalized = root(lifetimes.value() / static_cast<double>(tree.size()), p);
  out.lower_bound = root(std::max(0.0, bound.value()), p);
  return out;
}

double kendall_tau(std::span<const float> values) {
  const std::size_t n = values.size();
  std::vector<float> sorted(values.begin(), values.end()), other(n);
  // merge sort; a value that passes k larger ones on its way forward is discordant with each
  double discordant = 0;
  for (std::size_t width = 1; width < n; width *= 2) {
    for (std::size_t begin = 0; begin < n; begin += 2 * width) {
      const std::size_t middle = std::min(begin + width, n), end = std::min(begin + 2 * width, n);
      std::size_t left = begin, right = middle;
      for (std::size_t k = begin; k < end; ++k) {
        if (right == end || (left < middle && sorted[left] <= sorted[right])) {
          other[k] = sorted[left++];
        } else {
          discordant += static_cast<double>(middle - left);
          other[k] = sorted[right++];
        }
      }
    }
    sorted.swap(other);
  }
  const auto pairs = [](std::size_t k) { return static_cast<double>(k) * (static_cast<double>(k) - 1) / 2; };
  double tied = 0;
  for (std::size_t begin = 0; begin < n;) {
    const auto end = static_cast<std::size_t>(
        std::upper_bound(sorted.begin() + static_cast<index_t>(begin), sorted.end(), sorted[begin]) - sorted.begin());
    tied += pairs(end - begin);
    begin = end;
  }
  const double all = pairs(n), unequal = all - tied;
  return unequal > 0 ? (unequal - 2 * discordant) / std::sqrt(all * unequal) : 0;
}

// Of the paths to (i, j), i / (i + j) come from (i - 1, j): the share that has left the band is a mean of two shares,
// without a difference, so that small probabilities keep their digits.
double smirnov(index_t furthest, index_t n, index_t m) {
  NETASSAY_REQUIRE(n >= 1 && m >= 1, ValueError, "smirnov: got samples of ", n, " and ", m, ", expected at least 1");
  std::vector<double> left(static_cast<std::size_t>(m) + 1, 0.0);  // to (i, j), i the row at hand
  for (index_t i = 0; i <= n; ++i) {
    for (index_t j = 0; j <= m; ++j) {
      double& share = left[static_cast<std::size_t>(j)];
      if (std::abs(i * m - j * n) >= furthest) {
        share = 1;
      } else if (i + j > 0) {
        const double before = j > 0 ? left[static_cast<std::size_t>(j) - 1] : 0;
        share = (static_cast<double>(i) * share + static_cast<double>(j) * before) / static_cast<double>(i + j);
      }
    }
  }
  return left.back();
}

}  // namespace netassay
