#pragma once
/// Saturation: what share of a layer's width carries its variance, and how many directions that is.
///
/// # Definition
/// The eigenvalues of the covariance are l_1 >= ... >= l_d >= 0 (negatives from rounding clipped); t = sum l and
/// p = l / t.
///
/// - The dimension k(delta) is the least k with (l_1 + ... + l_k) / t >= delta - 1e-12.
/// - The saturation is k / d (Richter et al., arXiv 2006.08679).
/// - The effective dimension is exp(-sum p ln p), the Hill number of order 1 (Janik, Witaszczyk, arXiv 2006.04791).
/// - The participation ratio is t^2 / sum l^2, of order 2; the stable rank is t / l_1, of order infinity.
/// - The effective rank is exp(-sum q ln q), q = sqrt(l) / sum sqrt(l) (Roy, Vetterli 2007).
///
/// # Zero variance
/// Dimension and saturation are 0, the effective dimension and the other ranks are 1, and `constant` is set.

#include <optional>
#include <vector>

#include "netassay/stats/moments.hpp"

namespace netassay {

struct Saturation {
  double value;                     // k / d, in [0, 1]
  index_t dimension;                // k
  index_t width;                    // d
  double delta;                     // share of variance asked for
  std::vector<double> eigenvalues;  // descending, >= 0, activation units squared
  bool constant;
};

struct EffectiveDimension {
  double value;  // 1 <= value <= d
  double participation_ratio;
  double stable_rank;
  double effective_rank;
  bool constant;
};

/// Eigenvalues of a symmetric positive semidefinite matrix, descending, negatives clipped; (d, d) -> (d).
/// Throws ShapeError unless square, NonFinite for a NaN or an infinity. Cost: 4/3 d^3.
std::vector<double> spectrum(const SquareMatrix& covariance);

/// Throws ValueError unless 0 < delta <= 1 and the eigenvalues are descending and >= 0; ShapeError when there are none.
Saturation saturation(std::vector<double> eigenvalues, double delta = 0.99);
Saturation saturation(const SquareMatrix& covariance, double delta = 0.99);

EffectiveDimension effective_dimension(const std::vector<double>& eigenvalues);
EffectiveDimension effective_dimension(const SquareMatrix& covariance);

/// Participation ratio from unbiased estimates of (tr Sigma)^2 and tr(Sigma^2), each of them unbiased, their ratio
/// nearly. With S the covariance of divisor n - 1, t1 = tr S, t2 = tr S^2, Q = sum |x - mean|^4 / (n - 1) and
/// c = (n - 1) / (n (n - 2) (n - 3)):
///
///     tr(Sigma^2)^ = c [(n - 1) (n - 2) t2 + t1^2 - n Q]
///     (tr Sigma)^2^ = c [2 t2 + (n^2 - 3 n + 1) t1^2 - n Q]
///
/// `eigenvalues` are those of the covariance of divisor n, `fourth` is sum |x - mean|^4. The ratio is bounded to
/// [1, d]. Nothing when n < 10 (the ratio of two estimates then scatters over many times d) or when the estimate of
/// tr(Sigma^2) is not positive.
std::optional<double> corrected_participation_ratio(const std::vector<double>& eigenvalues, index_t n, double fourth);

}  // namespace netassay
