#pragma once
/// Saturation: what share of a layer's width carries its variance, and how many directions that is.
///
/// With eigenvalues l_1 >= ... >= l_d >= 0 of the covariance (negatives from rounding clipped), t = sum l, p = l / t:
///   dimension k(delta)   least k with (l_1 + ... + l_k) / t >= delta - 1e-12
///   saturation           k / d                                     (Richter et al., arXiv 2006.08679)
///   effective dimension  exp(-sum p ln p), Hill number of order 1   (Janik, Witaszczyk, arXiv 2006.04791)
///   participation ratio  t^2 / sum l^2, order 2;  stable rank t / l_1, order infinity
///   effective rank       exp(-sum q ln q), q = sqrt(l) / sum sqrt(l)   (Roy, Vetterli 2007)
///
/// Zero variance: dimension 0, saturation 0, effective dimension and the others 1, `constant` set.

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
/// `eigenvalues` are those of the covariance of divisor n, `fourth` is sum |x - mean|^4. Nothing when n < 4 or when the
/// estimate of tr(Sigma^2) is not positive.
std::optional<double> corrected_participation_ratio(const std::vector<double>& eigenvalues, index_t n, double fourth);

}  // namespace netassay
