/// Neural persistence: known answers, the bound, domains, Kendall's tau.

#include "netassay/persistence.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using namespace netassay;
using Numbers = std::vector<double>;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
NeuralPersistence of(const std::vector<T>& values, index_t rows, PersistenceOptions options = {}) {
  const auto cols = static_cast<index_t>(values.size()) / rows;
  return neural_persistence(MatrixView<const T>(values.data(), rows, cols), options, {1, {}});
}

Numbers random(index_t count, unsigned seed) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<double> normal;
  Numbers x(static_cast<std::size_t>(count));
  for (double& value : x) value = normal(bits);
  return x;
}

// The values of the published code, see tests/data/persistence.json.
void known_answers() {
  const NeuralPersistence one = of<double>({2}, 1);
  CHECK(one.total == 1 && one.normalized == 1 && one.lower_bound == 0 && one.scale == 2 && !one.zero);
  CHECK_EQUAL(of<double>({2}, 1, {.essential = false}).total, 0.0);
  const NeuralPersistence two = of<double>({1, 0.5, 0.25, 0.75}, 2);
  CHECK((two.weights == Numbers{1, 0.75, 0.5}));
  CHECK_NEAR(two.total, 1.14564392373896, 1e-14);
  CHECK_NEAR(two.normalized, 0.6614378277661477, 1e-14);
  CHECK_NEAR(two.lower_bound, 0.3535533905932738, 1e-14);
  CHECK_NEAR(of<double>({1, 0.5, 0.25, 0.75}, 2, {.essential = false}).total, 0.5590169943749475, 1e-14);
  const NeuralPersistence eye = of<double>({1, 0, 0, 0, 1, 0, 0, 0, 1}, 3);
  CHECK((eye.weights == Numbers{1, 1, 1, 0, 0}));
  CHECK_NEAR(eye.total, std::sqrt(3.0), 1e-15);
  const NeuralPersistence ones = of<float>({1, 1, 1, 1, 1, 1}, 3);
  CHECK(ones.total == 1 && ones.normalized == 0.5);
}

void every_power() {
  const Numbers x = random(12 * 9, 1);
  const NeuralPersistence base = of(x, 12);
  for (const double p : {0.5, 1.0, 2.0, 3.0, 7.5}) {
    long double sum = 0;
    for (const double w : base.weights) sum += std::pow(1 - static_cast<long double>(w), static_cast<long double>(p));
    for (const bool essential : {false, true}) {
      const NeuralPersistence got = of(x, 12, {.p = p, .essential = essential});
      const auto expected = static_cast<double>(std::pow(sum + (essential ? 1 : 0), 1 / static_cast<long double>(p)));
      CHECK_NEAR(got.total, expected, 1e-14 * expected);
      CHECK_NEAR(got.normalized, expected / std::pow(20, 1 / p), 1e-14 * expected);
      CHECK(got.weights == base.weights);
      CHECK_EQUAL(got.lower_bound, of(x, 12, {.p = p}).lower_bound);
    }
  }
}

void lower_bounds() {
  for (unsigned seed = 0; seed < 60; ++seed) {
    const index_t m = 1 + seed % 9, n = 1 + seed % 13;
    const Numbers x = random(m * n, seed);
    for (const double p : {0.3, 1.0, 2.0, 5.0}) {
      const NeuralPersistence got = of(x, m, {.p = p, .essential = false});
      CHECK(got.lower_bound >= 0 && got.lower_bound <= got.total * (1 + 1e-14));
      if (m == 1 || n == 1)
        CHECK_NEAR(got.lower_bound, got.total, 1e-13 * got.total);  // a star: every edge is a maximum
    }
  }
}

void no_weights_but_zeros() {
  for (const double scale : {0.0, 1e-300, 1e-50, 1.0, 1e300}) {
    for (const bool single : {false, true}) {
      const Numbers tree(6), rows(3), cols(4);
      const NeuralPersistence got = neural_persistence(tree, rows, cols, scale, {.single = single});
      CHECK(got.zero && got.weights == tree);
      CHECK_NEAR(got.total, std::sqrt(7.0), 1e-15);
      CHECK_NEAR(got.normalized, std::sqrt(7.0 / 6), 1e-15);
      CHECK_EQUAL(got.scale, scale);
    }
  }
  CHECK(!of<double>({0, 5e-324}, 1).zero);
}

void its_own_format() {
  CHECK_EQUAL(of<float>({1, 3}, 1).weights[1], static_cast<double>(1.0f / 3.0f));
  CHECK_EQUAL(of<double>({1, 3}, 1).weights[1], 1.0 / 3.0);
  CHECK_EQUAL(of<bf16>({{0x3f80}, {0x4040}}, 1).weights[1], static_cast<double>(1.0f / 3.0f));
  CHECK_EQUAL(of<std::int8_t>({1, -3}, 1).weights[1], 1.0 / 3.0);
  CHECK_EQUAL(of<std::int8_t>({-128, 64}, 1).scale, 128.0);
  // a scale that float32 has equal to the largest weight is not below it
  const Numbers tree{90}, ends{90};
  const double barely = 90 * (1 - 0x1p-26);
  CHECK_EQUAL(neural_persistence(tree, ends, ends, barely, {.single = true}).weights[0], 1.0);
  CHECK_THROWS(neural_persistence(tree, ends, ends, barely, {.single = false}), ValueError,
               "neural_persistence: got sc");
}

void a_larger_scale() {
  const Numbers x = random(30, 5);
  const NeuralPersistence own = of(x, 5);
  SpanningTree tree = maximum_spanning_tree(MatrixView<const double>(x.data(), 5, 6), {1, {}});
  Numbers weights;
  for (const TreeEdge& edge : tree.edges) weights.push_back(edge.weight);
  const PersistenceOptions wide{.single = false};
  const NeuralPersistence same = neural_persistence(weights, tree.row_max, tree.col_max, own.scale, wide);
  CHECK(same.total == own.total && same.weights == own.weights && same.lower_bound == own.lower_bound);
  const NeuralPersistence doubled = neural_persistence(weights, tree.row_max, tree.col_max, 2 * own.scale, wide);
  for (std::size_t k = 0; k < weights.size(); ++k) CHECK_EQUAL(2 * doubled.weights[k], own.weights[k]);
  CHECK(doubled.total > own.total && doubled.lower_bound > own.lower_bound);
  // far away every lifetime is one
  CHECK_NEAR(neural_persistence(weights, tree.row_max, tree.col_max, 1e300, wide).total, std::sqrt(11.0), 1e-14);
}

void errors() {
  const Numbers tree{3, 2, 1}, two{3, 2};
  for (const double p : {0.0, -1.0, kNaN, kInfinity}) {
    CHECK_THROWS(neural_persistence(tree, two, two, 3, {.p = p}), ValueError, "expected a finite number above 0");
  }
  for (const double scale : {2.9, 0.0, -3.0, kNaN, kInfinity, -kInfinity}) {
    CHECK_THROWS(neural_persistence(tree, two, two, scale), ValueError,
                 "expected a finite number not below the largest weight, 3");
  }
  const Numbers none;
  CHECK_THROWS(neural_persistence(tree, two, tree, 3), ShapeError,
               "neural_persistence: got 3 tree weights of 2 rows and 3 columns, expected rows + columns - 1");
  CHECK_THROWS(neural_persistence(none, none, none, 0), ShapeError, "got 0 tree weights");
  CHECK_THROWS(neural_persistence(tree, none, Numbers{1, 1, 1, 1}, 3), ShapeError, "of 0 rows and 4 columns");
}

double literal_tau(const std::vector<float>& y) {
  double sum = 0, unequal = 0, pairs = 0;
  for (std::size_t j = 0; j < y.size(); ++j) {
    for (std::size_t i = 0; i < j; ++i) {
      sum += (y[j] > y[i]) - (y[j] < y[i]);
      unequal += y[j] != y[i];
      ++pairs;
    }
  }
  return unequal > 0 ? sum / std::sqrt(pairs * unequal) : 0;
}

void tau() {
  std::mt19937_64 bits(4);
  for (const std::size_t n : {0u, 1u, 2u, 3u, 7u, 8u, 9u, 64u, 65u, 300u}) {
    for (const unsigned kinds : {1u, 2u, 5u, 1000u, 1u << 30}) {
      std::vector<float> y(n);
      for (float& value : y) value = static_cast<float>(bits() % kinds);
      CHECK_NEAR(kendall_tau(y), literal_tau(y), 1e-15);
      std::sort(y.begin(), y.end());
      CHECK_NEAR(kendall_tau(y), literal_tau(y), 1e-15);
      std::reverse(y.begin(), y.end());
      CHECK_NEAR(kendall_tau(y), literal_tau(y), 1e-15);
    }
  }
}

void many_pairs() {  // more than 2^32 of them
  std::vector<float> y(200'000);
  for (std::size_t k = 0; k < y.size(); ++k) y[k] = static_cast<float>(k);
  CHECK_EQUAL(kendall_tau(y), 1.0);
  std::reverse(y.begin(), y.end());
  CHECK_EQUAL(kendall_tau(y), -1.0);
}

// By hand: two values of three lie on one side of the single one in 2 of 4 orders; 5 and 5 apart in 2 of 252.
void smirnov_by_hand() {
  CHECK_NEAR(smirnov(3, 1, 3), 0.5, 1e-15);
  CHECK_NEAR(smirnov(2, 1, 3), 1.0, 1e-15);
  CHECK_NEAR(smirnov(25, 5, 5), 2.0 / 252, 1e-17);
  CHECK_NEAR(smirnov(0, 4, 7), 1.0, 0.0);
  CHECK_NEAR(smirnov(300 * 200, 300, 200) * 1e145,
             2 * std::exp(std::lgamma(301.0) + std::lgamma(201.0) - std::lgamma(501.0)) * 1e145, 1e-6);
  CHECK_THROWS(smirnov(1, 0, 3), ValueError, "smirnov: got samples of 0 and 3");
}

}  // namespace

int main() {
  return check::run({
      {"small matrices have their known values", known_answers},
      {"the exact Kolmogorov-Smirnov probability is that of counting by hand", smirnov_by_hand},
      {"every power, with and without the essential class", every_power},
      {"the bound is never above the total without the essential class, and meets it on a star", lower_bounds},
      {"an all-zero matrix has weights of zero at every scale, and a mark", no_weights_but_zeros},
      {"weights are divided in their own format", its_own_format},
      {"a larger scale divides the same tree", a_larger_scale},
      {"powers, scales and sizes outside their domain are refused", errors},
      {"Kendall's tau is that of all pairs", tau},
      {"Kendall's tau of more pairs than 32 bits count", many_pairs},
  });
}
