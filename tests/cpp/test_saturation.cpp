/// Saturation and effective dimension: known answers, domains, error texts.

#include "netassay/saturation.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

#include "check.hpp"

namespace {

using namespace netassay;
using Spectrum = std::vector<double>;

Spectrum make(index_t d, const std::function<double(double)>& value) {
  Spectrum eigenvalues(static_cast<std::size_t>(d));
  for (index_t i = 0; i < d; ++i) eigenvalues[static_cast<std::size_t>(i)] = value(static_cast<double>(i + 1));
  return eigenvalues;
}

Spectrum flat(index_t d) { return Spectrum(static_cast<std::size_t>(d), 1.0); }
Spectrum inverse(index_t d) {
  return make(d, [](double i) { return 1 / i; });
}

// H diag(l) H with the Householder reflection H = I - 2 v v^T / v^T v: a full matrix with known eigenvalues.
SquareMatrix rotated(const Spectrum& eigenvalues) {
  const auto d = static_cast<index_t>(eigenvalues.size());
  SquareMatrix h(d), q(d);
  const auto v = [](index_t i) { return 1.0 + static_cast<double>(i % 7); };
  double square = 0;
  for (index_t i = 0; i < d; ++i) square += v(i) * v(i);
  for (index_t i = 0; i < d; ++i) {
    for (index_t j = 0; j < d; ++j) h(i, j) = (i == j ? 1.0 : 0.0) - 2 * v(i) * v(j) / square;
  }
  for (index_t i = 0; i < d; ++i) {
    for (index_t j = 0; j < d; ++j) {
      for (index_t k = 0; k < d; ++k) q(i, j) += h(i, k) * eigenvalues[static_cast<std::size_t>(k)] * h(k, j);
    }
  }
  return q;
}

void flat_spectra() {
  CHECK_EQUAL(saturation(flat(10)).dimension, index_t{10});
  CHECK_EQUAL(saturation(flat(64)).dimension, index_t{64});
  CHECK_EQUAL(saturation(flat(100)).dimension, index_t{99});
  CHECK_EQUAL(saturation(flat(1000)).dimension, index_t{990});
  CHECK_EQUAL(saturation(flat(100)).value, 0.99);
  for (const index_t k : {1, 7, 64}) {
    Spectrum some = flat(64);
    std::fill(some.begin() + k, some.end(), 0.0);
    const auto rank = static_cast<double>(k);
    CHECK_EQUAL(saturation(some).dimension, static_cast<index_t>(std::ceil(0.99 * rank)));
    const EffectiveDimension e = effective_dimension(some);
    for (const double value : {e.value, e.participation_ratio, e.stable_rank, e.effective_rank}) {
      CHECK_NEAR(value, rank, 1e-12 * rank);
    }
  }
}

void known_spectra() {
  CHECK_EQUAL(saturation({.995, .005}).dimension, index_t{1});
  CHECK_EQUAL(saturation({.985, .015}).dimension, index_t{2});
  CHECK_EQUAL(saturation({1.0, 0.0}).dimension, index_t{1});
  CHECK_EQUAL(saturation(make(64, [](double i) { return std::pow(0.9, i); })).dimension, index_t{43});
  CHECK_EQUAL(saturation(inverse(512)).dimension, index_t{479});
  CHECK_EQUAL(saturation(inverse(512), 1.0).dimension, index_t{512});
}

void ordered_dimensions() {
  const EffectiveDimension e = effective_dimension(inverse(256));
  CHECK_NEAR(e.participation_ratio, 22.86, 0.005);  // (sum 1/i)^2 / sum 1/i^2
  CHECK(256 >= e.effective_rank && e.effective_rank >= e.value);
  CHECK(e.value >= e.participation_ratio && e.participation_ratio >= e.stable_rank && e.stable_rank >= 1);
}

void scale_changes_nothing() {
  const Saturation s = saturation(inverse(32));
  const EffectiveDimension e = effective_dimension(inverse(32));
  for (const double scale : {1e-300, 1e-160, 1e160, 1e300}) {
    Spectrum scaled = inverse(32);
    for (double& value : scaled) value *= scale;
    CHECK_EQUAL(saturation(scaled).dimension, s.dimension);
    CHECK_NEAR(effective_dimension(scaled).value, e.value, 1e-12 * e.value);
    CHECK_NEAR(effective_dimension(scaled).participation_ratio, e.participation_ratio, 1e-12 * e.value);
  }
}

void no_variance() {
  const Saturation s = saturation(Spectrum(5, 0.0));
  CHECK(s.constant && s.value == 0 && s.dimension == 0 && s.width == 5);
  const EffectiveDimension e = effective_dimension(Spectrum(5, 0.0));
  CHECK(e.constant && e.value == 1 && e.participation_ratio == 1 && e.stable_rank == 1 && e.effective_rank == 1);
}

void eigenvalues_of_a_full_matrix() {
  for (const index_t d : {1, 2, 3, 17, 64}) {
    const Spectrum expected = make(d, [](double i) { return std::pow(0.7, i); });
    const Spectrum got = spectrum(rotated(expected));
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK_NEAR(got[i], expected[i], 1e-13);
  }
  SquareMatrix q(2);
  q.values = {1, 2, 2, 1};  // eigenvalues 3 and -1
  CHECK_NEAR(spectrum(q)[0], 3, 1e-15);
  CHECK_EQUAL(spectrum(q)[1], 0.0);
  CHECK_EQUAL(saturation(rotated(flat(10))).dimension, index_t{10});
  CHECK_NEAR(effective_dimension(rotated(flat(10))).value, 10, 1e-9);
}

// Unbiased estimates from n rows of a rotated d = 3, as averages over all choices of four different rows:
// (tr Sigma)^2 of |a - b|^2 |c - e|^2 / 4, tr(Sigma^2) of ((a - b)^T (c - e))^2 / 4.
void corrected_ratio() {
  constexpr int n = 11, d = 3;
  double x[n][d];
  unsigned state = 1;
  for (auto& row : x) {
    for (double& value : row) value = 5 + (state = state * 1664525u + 1013904223u) / 4294967296.0;
  }
  const auto product = [&](int a, int b, int c, int e) {
    double sum = 0;
    for (int j = 0; j < d; ++j) sum += (x[a][j] - x[b][j]) * (x[c][j] - x[e][j]);
    return sum;
  };
  double square_of_trace = 0, trace_of_square = 0;
  for (int a = 0; a < n; ++a) {
    for (int b = 0; b < n; ++b) {
      for (int c = 0; c < n; ++c) {
        for (int e = 0; e < n; ++e) {
          if (a == b || a == c || a == e || b == c || b == e || c == e) continue;
          square_of_trace += product(a, b, a, b) * product(c, e, c, e);
          trace_of_square += product(a, b, c, e) * product(a, b, c, e);
        }
      }
    }
  }
  Moments m(d, {.fourth = true});
  m.update(MatrixView<const double>(&x[0][0], n, d));
  const auto got = corrected_participation_ratio(spectrum(m.covariance()), n, m.fourth());
  CHECK(got.has_value());
  CHECK_NEAR(got.value_or(0), square_of_trace / trace_of_square, 1e-9);
  CHECK(!corrected_participation_ratio({1.0}, 9, 1.0).has_value());
  CHECK_NEAR(corrected_participation_ratio({1.0, 1.0}, 10, 150.0).value_or(0), 2.0, 0.0);  // 11.8 by the formula
  CHECK(!corrected_participation_ratio({0.0}, 10, 0.0).has_value());
}

void from_rows_to_dimension() {
  // +-a_j on axis j: covariance diag(a_j^2 / d), exactly
  constexpr index_t d = 8;
  std::vector<float> rows;
  for (index_t j = 0; j < d; ++j) {
    for (const float sign : {1.f, -1.f}) {
      for (index_t i = 0; i < d; ++i) rows.push_back(i == j ? sign * (j < 3 ? 1.f : 0.f) : 0.f);
    }
  }
  Moments m(d);
  m.update(MatrixView<const float>(rows.data(), 2 * d, d));
  CHECK_EQUAL(saturation(m.covariance()).dimension, index_t{3});
  CHECK_NEAR(effective_dimension(m.covariance()).value, 3, 1e-12);
}

void errors() {
  CHECK_THROWS(saturation(Spectrum{}), ShapeError, "saturation: got no eigenvalues, expected at least one");
  CHECK_THROWS(saturation(Spectrum{1, 2}), ValueError, "got eigenvalue 2 at 1, expected descending and >= 0");
  CHECK_THROWS(saturation(Spectrum{1, -1}), ValueError, "got eigenvalue -1 at 1, expected descending and >= 0");
  CHECK_THROWS(saturation(Spectrum{std::nan("")}), NonFinite, "saturation: got a non-finite eigenvalue at 0");
  for (const double delta : {0.0, -0.5, 1.5, std::nan("")}) {
    CHECK_THROWS(saturation(flat(3), delta), ValueError, "expected 0 < delta <= 1");
  }
  CHECK_THROWS(effective_dimension(Spectrum{}), ShapeError, "effective_dimension: got no eigenvalues");
  CHECK_THROWS(spectrum(SquareMatrix(0)), ShapeError, "spectrum: got 0 values, expected d x d with d >= 1");
  SquareMatrix ragged(3);
  ragged.values.pop_back();
  CHECK_THROWS(spectrum(ragged), ShapeError, "spectrum: got 8 values");
  SquareMatrix infinite(2);
  infinite(0, 1) = std::numeric_limits<double>::infinity();
  CHECK_THROWS(spectrum(infinite), NonFinite, "spectrum: got a non-finite covariance");
}

}  // namespace

int main() {
  return check::run({
      {"k equal eigenvalues count k directions, and 0.99 k of them rounded up", flat_spectra},
      {"known spectra have their known dimensions", known_spectra},
      {"the dimensions are ordered, and 1/i has its participation ratio", ordered_dimensions},
      {"scale changes nothing, however extreme", scale_changes_nothing},
      {"no variance is a defined value and a mark", no_variance},
      {"a full matrix gives its eigenvalues, descending and clipped at zero", eigenvalues_of_a_full_matrix},
      {"the corrected ratio is that of averages over four different rows", corrected_ratio},
      {"rows to dimension", from_rows_to_dimension},
      {"what is outside the domain is refused, and the message says what was expected", errors},
  });
}
