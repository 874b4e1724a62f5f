#include "netassay/saturation.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Eigenvalues>

namespace netassay {
namespace {

// Rows below which the ratio of two unbiased estimates scatters over many times the width.
constexpr index_t kLeastCorrected = 10;

void require_spectrum(const std::vector<double>& eigenvalues, const char* function) {
  NETASSAY_REQUIRE(!eigenvalues.empty(), ShapeError, function, ": got no eigenvalues, expected at least one");
  for (std::size_t i = 0; i < eigenvalues.size(); ++i) {
    NETASSAY_REQUIRE(std::isfinite(eigenvalues[i]), NonFinite, function, ": got a non-finite eigenvalue at ", i);
    NETASSAY_REQUIRE(eigenvalues[i] >= 0 && (i == 0 || eigenvalues[i] <= eigenvalues[i - 1]), ValueError, function,
                     ": got eigenvalue ", eigenvalues[i], " at ", i, ", expected descending and >= 0");
  }
}

double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// exp of the entropy of values / sum(values).
double hill_number_of_order_one(const std::vector<double>& values) {
  const double sum = total(values);
  double entropy = 0;
  for (const double value : values) {
    const double p = value / sum;
    if (p > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy);
}

// In units of the largest, so that no square over- or underflows.
std::vector<double> relative(const std::vector<double>& eigenvalues) {
  std::vector<double> scaled(eigenvalues);
  for (double& value : scaled) value /= eigenvalues.front();
  return scaled;
}

}  // namespace

std::vector<double> spectrum(const SquareMatrix& covariance) {
  const index_t d = covariance.d;
  NETASSAY_REQUIRE(d >= 1 && covariance.values.size() == static_cast<std::size_t>(d * d), ShapeError, "spectrum: got ",
                   covariance.values.size(), " values, expected d x d with d >= 1");
  for (const double value : covariance.values) {
    NETASSAY_REQUIRE(std::isfinite(value), NonFinite, "spectrum: got a non-finite covariance");
  }
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Matrix> full(covariance.values.data(), d, d);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(full, Eigen::EigenvaluesOnly);
  std::vector<double> values(solver.eigenvalues().data(), solver.eigenvalues().data() + d);
  std::reverse(values.begin(), values.end());
  for (double& value : values) value = std::max(value, 0.0);
  return values;
}

Saturation saturation(std::vector<double> eigenvalues, double delta) {
  require_spectrum(eigenvalues, "saturation");
  NETASSAY_REQUIRE(delta > 0 && delta <= 1, ValueError, "saturation: got delta=", delta, ", expected 0 < delta <= 1");
  const auto d = static_cast<index_t>(eigenvalues.size());
  if (eigenvalues.front() == 0) return {0.0, 0, d, delta, std::move(eigenvalues), true};
  const std::vector<double> scaled = relative(eigenvalues);
  const double sum = total(scaled);
  double running = 0;
  index_t k = 0;
  while (k < d && running / sum < delta - 1e-12) running += scaled[static_cast<std::size_t>(k++)];
  return {static_cast<double>(k) / static_cast<double>(d), k, d, delta, std::move(eigenvalues), false};
}

Saturation saturation(const SquareMatrix& covariance, double delta) { return saturation(spectrum(covariance), delta); }

EffectiveDimension effective_dimension(const std::vector<double>& eigenvalues) {
  require_spectrum(eigenvalues, "effective_dimension");
  if (eigenvalues.front() == 0) return {1.0, 1.0, 1.0, 1.0, true};
  const std::vector<double> scaled = relative(eigenvalues);
  const double sum = total(scaled);
  std::vector<double> roots(scaled);
  double squares = 0;
  for (double& value : roots) {
    squares += value * value;
    value = std::sqrt(value);
  }
  return {hill_number_of_order_one(scaled), sum * sum / squares, sum, hill_number_of_order_one(roots), false};
}

EffectiveDimension effective_dimension(const SquareMatrix& covariance) {
  return effective_dimension(spectrum(covariance));
}

std::optional<double> corrected_participation_ratio(const std::vector<double>& eigenvalues, index_t n, double fourth) {
  require_spectrum(eigenvalues, "corrected_participation_ratio");
  if (n < kLeastCorrected || eigenvalues.front() == 0) return std::nullopt;
  const auto rows = static_cast<double>(n);
  const double unit = eigenvalues.front();
  const double unbiased = rows / (rows - 1);
  double t1 = 0, t2 = 0;
  for (const double value : relative(eigenvalues)) {
    t1 += value * unbiased;
    t2 += value * unbiased * value * unbiased;
  }
  const double q = fourth / (rows - 1) / unit / unit;
  const double trace_of_square = (rows - 1) * (rows - 2) * t2 + t1 * t1 - rows * q;
  const double square_of_trace = 2 * t2 + (rows * rows - 3 * rows + 1) * t1 * t1 - rows * q;
  if (!(trace_of_square > 0)) return std::nullopt;
  return std::clamp(square_of_trace / trace_of_square, 1.0, static_cast<double>(eigenvalues.size()));
}

}  // namespace netassay
