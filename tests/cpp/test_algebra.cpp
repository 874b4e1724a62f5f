/// Sums of binomials against exact integers.
///
/// Tolerance: the header's 1e-14, relative; exact integers give log2 to two units in the last place (natural.hpp).

#include "netassay/algebra.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "check.hpp"
#include "netassay/base/natural.hpp"

namespace {

using namespace netassay;

constexpr double kTolerance = 1e-14;

/// sum_{j <= k} C(n, j) of every k, by Pascal's triangle.
std::vector<Natural> sums(index_t n) {
  std::vector<Natural> row{Natural(1)};
  for (index_t i = 1; i <= n; ++i) {
    row.emplace_back();
    for (std::size_t j = row.size() - 1; j > 0; --j) row[j] += row[j - 1];
  }
  for (std::size_t j = 1; j < row.size(); ++j) row[j] += row[j - 1];
  return row;
}

void exact_integers() {
  for (const index_t n : {0, 1, 2, 3, 4, 5, 10, 31, 32, 63, 64, 65, 127, 128, 255, 256, 257, 300, 601}) {
    const std::vector<Natural> exact = sums(n);
    for (index_t k = 0; k <= n; ++k) {
      const double expected = exact[static_cast<std::size_t>(k)].log2();
      CHECK_NEAR(log2_binomial_sum(n, k), expected, kTolerance * expected);
    }
  }
}

void ends() {
  for (const index_t n : {0, 1, 7, 1000, 1'000'003}) {
    CHECK_EQUAL(log2_binomial_sum(n, 0), 0.0);
    for (const index_t more : {0, 1, 1000}) CHECK_EQUAL(log2_binomial_sum(n, n + more), static_cast<double>(n));
    if (n % 2 == 1) CHECK_EQUAL(log2_binomial_sum(n, n / 2), static_cast<double>(n - 1));
  }
}

// Few terms are polynomials of n, exact in long double: what differences of lgamma lose is all of them.
void huge_and_few() {
  for (const index_t n : {index_t{1'000'000}, index_t{1'000'000'000'000}, index_t{1} << 50}) {
    const long double x = static_cast<long double>(n);
    const long double two = 1 + x + x * (x - 1) / 2, three = two + x * (x - 1) * (x - 2) / 6;
    const std::array<long double, 4> exact{1, 1 + x, two, three};
    for (index_t k = 1; k <= 3; ++k) {
      const auto expected = static_cast<double>(std::log2(exact[static_cast<std::size_t>(k)]));
      CHECK_NEAR(log2_binomial_sum(n, k), expected, kTolerance * expected);
    }
  }
}

// S(n, k + 1) - S(n, k) = C(n, k + 1), where both ways to find a binomial meet, and Pascal's rule for sums everywhere:
// S(n, k) = S(n - 1, k) + S(n - 1, k - 1).
void large_sums_obey_pascal() {
  for (const index_t n : {index_t{5'000}, index_t{1'000'000}, index_t{100'000'000}}) {
    for (const index_t k : {index_t{2}, index_t{126}, index_t{127}, index_t{128}, index_t{129}, n / 10, n / 2 - 1000,
                            n / 2 - 1, n / 2, n / 2 + 1, n / 2 + 1000, n - 5}) {
      const double whole = log2_binomial_sum(n, k), a = log2_binomial_sum(n - 1, k),
                   b = log2_binomial_sum(n - 1, k - 1);
      CHECK_NEAR(a + std::log2(1 + std::exp2(b - a)), whole, 3 * kTolerance * whole);
      CHECK(a <= whole && b <= a);
    }
  }
}

// A log-sum of 1000 of some 6 sqrt(n) terms only would be short by much more than the tolerance
// of 2^-n S(n, n / 2 - i).
void the_middle() {
  constexpr index_t n = 1'000'000;
  for (const index_t i : {0, 10, 500, 1500}) {  // 1500 is three standard deviations
    const double expected = 0.5 * std::erfc((static_cast<double>(i) + 0.5) / std::sqrt(n / 2.0));
    CHECK_NEAR(std::exp2(log2_binomial_sum(n, n / 2 - 1 - i) - n), expected, 1e-5 * expected + 2e-8);
  }
}

void montufar() {
  const auto bound = [](std::vector<index_t> widths) { return log2_montufar_bound(widths); };
  CHECK_EQUAL(bound({2, 4, 4}), std::log2(121.0));
  CHECK_NEAR(bound({1, 3, 3}), 4.0, 4 * kTolerance);
  CHECK_NEAR(bound({2, 4, 3, 2}), std::log2(308.0), 9 * kTolerance);
  CHECK_NEAR(bound({3, 5, 2, 5}), std::log2(1664.0), 9 * kTolerance);
  CHECK_EQUAL(bound({5, 5}), 5.0);
}

void errors() {
  CHECK_THROWS(log2_binomial_sum(-1, 0), ValueError, "log2_binomial_sum: got n = -1 and k = 0, expected");
  CHECK_THROWS(log2_binomial_sum(3, -2), ValueError, "k = -2");
  CHECK_THROWS(log2_binomial_sum((index_t{1} << 50) + 1, 3), ValueError, "2^50");
  const std::vector<index_t> one{3}, zero{3, 0};
  CHECK_THROWS(log2_montufar_bound(one), ShapeError, "log2_montufar_bound: got 1 widths, expected inputs");
  CHECK_THROWS(log2_montufar_bound(zero), ValueError, "got a width of 0, expected 1 to 2^50");
}

}  // namespace

int main() {
  return check::run({
      {"sums are those of exact integers, for every k", exact_integers},
      {"no term but one, all terms and half of them are exact", ends},
      {"few terms of a huge n keep all digits", huge_and_few},
      {"large sums obey Pascal's rule, on both sides of every seam", large_sums_obey_pascal},
      {"around the middle enough terms are added", the_middle},
      {"the product over layers has its known values", montufar},
      {"what is outside the domain is refused", errors},
  });
}
