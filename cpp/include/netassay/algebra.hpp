#pragma once
/// How many regions layers of piecewise-linear units can cut their input into: sums in the log domain.
///
/// n hyperplanes in general position cut R^k into
///
///     S(n, k) = sum_{j = 0}^{min(k, n)} C(n, j)
///
/// pieces, and no n hyperplanes into more. A chain of ReLU layers of n_1 ... n_L units on n_0 inputs has at most
/// prod_l S(n_l, min(n_0, ..., n_l)) linear regions.
///
/// Everything is in bits. Sources: Zaslavsky, "Facing up to arrangements" (1975); Montufar, "Notes on the number of
/// linear regions of deep neural networks" (SampTA 2017). Sums over the paths of a network: graph/dag.hpp.

#include <span>

#include "netassay/base/view.hpp"

namespace netassay {

/// log2 S(n, k); exactly n where k >= n, exactly 0 where k = 0. Relative error below 1e-14.
///
/// The largest term is C(n, k) for k below n / 2, and term by term the sum falls off at least geometrically: terms are
/// added downwards from it until the rest is below 2^-60 of the sum, after some 6 sqrt(n) terms at most. Above the
/// middle S(n, k) = 2^n - S(n, n - k - 1). log2 C(n, k) is a sum of k logarithms for k < 128, else Stirling's series in
/// a form where nothing large cancels: differences of lgamma would lose all digits at n = 1e12 and small k.
///
/// Throws ValueError: n or k below 0, n above 2^50.
double log2_binomial_sum(index_t n, index_t k);

/// sum_l log2 S(n_l, min(n_0, ..., n_l)) over l = 1 ... L, of widths n_0, ..., n_L; relative error as above.
/// Throws ShapeError (fewer than two widths), ValueError (a width below 1 or above 2^50).
double log2_montufar_bound(std::span<const index_t> widths);

}  // namespace netassay
