#pragma once
/// The model as a weighted graph: the weights of its links, layer by layer.
///
/// W (m outputs, n inputs; any strides) holds N = m n links of weight w. One read gives
///
///     mean = sum w / N            variance = M2 / N            M_k = sum (w - mean)^k
///     skewness = sqrt(N) M3 / M2^1.5                excess kurtosis = N M4 / M2^2 - 3
///
/// with the least, the largest, the share of zeros and a histogram; and for every row and column the sums of w, |w| and
/// w^2, so that (sum |w| +- sum w) / 2 are the positive and the negative part.
///
/// All sums are of float64: of runs of at most 1024 weights, then of the runs of a tile, then of tiles, in an order
/// that the shape and the instruction set fix, never the number of threads. Those of d = w - pivot are taken about a
/// typical weight of each tile and joined by the formulas of Pebay, so that a mean far from zero costs nothing: a sum
/// of terms t is off by at most (1024 + runs of a tile + tiles) 2^-52 sum |t|, of d^k where M_k is meant and of the
/// lower powers times those of the shift, |pivot - mean|, which is a few standard deviations at most. Weights of two
/// bytes or one are counted by their bits, which is exact, and their moments are those of the counts. Links that all
/// weigh the same have variance, skewness and excess kurtosis 0. Sums of float64 weights may be infinite where no
/// float64 holds them; moments are taken of w 2^-exponent where powers of w would leave its range.
///
/// Cost: one read, and memory for the sums of 128 bands of rows and two histograms per thread.
///
/// Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488); Pebay, "Formulas for robust,
/// one-pass parallel computation of covariances and arbitrary-order statistical moments" (SAND2008-6212).

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"
#include "netassay/base/view.hpp"

namespace netassay {

/// Weights from low to high. low = high where the format has so few numbers that each is counted (two bytes or one).
/// Else they share sign, exponent and seven bits of the fraction: high <= low (1 + 2^-7) in magnitude, but for
/// magnitudes below 2^-126 (not told apart, zeros are) and above 2^128 (nor are these). Where all weights of a matrix
/// lie so near to each other that this says little, maximum - minimum < max |w| / 4, its bins are 2^16 equal parts of
/// that range, for one more read.
struct LinkBin {
  double low, high;
  std::uint64_t count;
};

/// Of any number of links; empty as it is made.
struct LinkStatistics {
  std::uint64_t count = 0, zeros = 0;
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();
  /// The mean, and the sums of powers of deviations from it, of w 2^-exponent.
  double scaled_mean = 0, second = 0, third = 0, fourth = 0;
  int exponent = 0;
  /// Those that hold links, ascending.
  std::vector<LinkBin> bins;
  /// Links between neighbouring edges of link_grid(): magnitudes from the lesser edge, excluding the greater. Exact.
  std::vector<std::uint64_t> density;

  /// Adds other links, of any format. Nothing but the moments' last bits depends on the order of merges.
  void merge(const LinkStatistics& other);

  double mean() const;
  double variance() const;
  double skewness() const;
  double kurtosis() const;
  /// Linear between the order statistics at floor and ceil of q (count - 1), 0 <= q <= 1. Those come from their bin, as
  /// if its links lay evenly: each is off by no more than the bin is wide (2^-7 of itself, or 2^-16 of the range), and
  /// exact where low = high.
  /// Throws ValueError: q outside [0, 1]. TooFewRows: no links.
  double quantile(double q) const;
};

/// Edges that every matrix shares, ascending: -inf, -2^8, ..., -2^-24, 2^-24, ..., 2^8, inf, eight an octave.
std::span<const double> link_grid();

/// Of each row or column.
struct LinkSums {
  std::vector<double> sum, absolute, square;
};

struct LinkOptions {
  bool statistics = true, sums = true;
  /// What messages begin with.
  const char* function = "link_survey";
};

/// What was not asked for is empty.
struct LinkSurvey {
  LinkStatistics statistics;
  LinkSums rows, columns;
};

/// T: double, float, bf16, f16, f8e4m3, f8e5m2, int8, uint8.
/// Throws ShapeError: no weights. NonFinite: names the first NaN or infinity by [row, column].
template <class T>
LinkSurvey link_survey(const MatrixView<const T>& w, const LinkOptions& options = {}, const Execution& execution = {});

}  // namespace netassay
