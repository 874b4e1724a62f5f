#pragma once
/// The model as a weighted graph: the weights of its links, layer by layer.
///
/// # Definition
/// W (m outputs, n inputs; any strides) holds N = m n links of weight w. With M_k = sum (w - mean)^k, one read gives
///
///     mean = sum w / N
///     variance = M2 / N
///     skewness = sqrt(N) M3 / M2^1.5
///     excess kurtosis = N M4 / M2^2 - 3
///
/// and the least weight, the largest, the share of zeros and a histogram. For every row and column it gives the sums of
/// w, |w| and w^2, so that (sum |w| +- sum w) / 2 are the positive and the negative part. Links that all weigh the same
/// have variance, skewness and excess kurtosis 0.
///
/// # Determinism
/// All sums are of float64: of runs of at most 1024 weights, then of the runs of a tile, then of tiles, in an order
/// that the shape and the instruction set fix, never the number of threads. Sums of int8 and uint8 are exact: they are
/// integers until they join the float64 sums of a tile. Weights of two bytes or one are counted by their bits, which is
/// exact, and their moments are those of the counts.
///
/// # Precision
/// Sums of d = w - pivot are taken about a typical weight of each tile and joined by the formulas of Pebay, so that a
/// mean far from zero costs nothing. A sum of terms t is off by at most (1024 + runs of a tile + tiles) 2^-52 sum |t|.
/// Where M_k is meant, the terms are d^k and the lower powers times those of the shift, |pivot - mean|, which is a few
/// standard deviations at most.
///
/// The pivot is zero where zero is as near. The sums of rows are then the first two powers, where both are asked for,
/// so that moments of such a read may differ in their last bits from those of a read for moments alone.
///
/// Sums of float64 weights may be infinite where no float64 holds them. Moments are taken of w 2^-exponent where powers
/// of w would leave the range of float64.
///
/// # Cost
/// One read, and memory for the sums of 128 bands of rows and four histograms (1 MiB) per thread.
///
/// # Source
/// La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488); Pebay, "Formulas for robust,
/// one-pass parallel computation of covariances and arbitrary-order statistical moments" (SAND2008-6212).

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"
#include "netassay/base/view.hpp"

namespace netassay {

/// How many weights lie from low to high. low = high where the format has so few numbers that each is counted (two
/// bytes or one). Otherwise the weights of a bin share sign, exponent and seven bits of the fraction: high <=
/// low (1 + 2^-7) in magnitude. Exceptions are magnitudes below 2^-126 (they are not told apart, but zeros are) and
/// magnitudes above 2^128 (they are not told apart either). Where all weights of a matrix lie so near to each other
/// that such bins tell little, that is maximum - minimum < max |w| / 4, the bins are 2^16 equal parts of that range,
/// for one more read.
struct LinkBin {
  double low, high;
  std::uint64_t count;
};

/// The statistics of any number of links; a new object holds no links.
struct LinkStatistics {
  std::uint64_t count = 0, zeros = 0;
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();
  /// The mean of w 2^-exponent, the error of that mean, and the sums of powers of deviations from it.
  double scaled_mean = 0, scaled_rest = 0, second = 0, third = 0, fourth = 0;
  int exponent = 0;
  /// The bins that hold links, ascending.
  std::vector<LinkBin> bins;
  /// Links between neighbouring edges of link_grid(): magnitudes from the lesser edge, excluding the greater. Exact.
  std::vector<std::uint64_t> density;

  /// Adds other links, of any format. Only the last bits of the moments depend on the order of merges.
  void merge(const LinkStatistics& other);

  double mean() const;
  double variance() const;
  double skewness() const;
  double kurtosis() const;
  /// Linear between the order statistics at floor and ceil of q (count - 1), 0 <= q <= 1. An order statistic comes from
  /// its bin, as if the links of the bin lay evenly: it is off by no more than the bin is wide (2^-7 of itself, or
  /// 2^-16 of the range), and exact where low = high.
  /// Throws ValueError: q outside [0, 1]. TooFewRows: no links.
  double quantile(double q) const;
};

/// Edges that every matrix shares, ascending: -inf, -2^8, ..., -2^-24, 2^-24, ..., 2^8, inf, eight an octave.
std::span<const double> link_grid();

namespace network {
struct Delta;
}

/// Values that stream by, such as the activations of a layer: the numbers of LinkStatistics, in a state that takes more
/// values at any time.
///
/// # Special numbers
/// A NaN or an infinity is left out and counted: the state equals, bit for bit, the state of the finite values in the
/// same order and memory layout.
///
/// # Determinism
/// Values are taken in the order in which they lie in memory, in blocks of 32768; float64 sums begin anew with each
/// block. Counts, extremes and quantiles depend on the values alone, whatever the order of updates and merges.
/// Merging the empty state changes nothing. Moments of merged states depend on their order in the last bits.
/// Nothing depends on threads.
///
/// # Precision
/// The moments of a call are off as above, by (1024 + 32 + blocks) 2^-52. Bins are the float32 bins of link statistics,
/// for all formats: [low, low (1 + 2^-7)). Values below 2^-126 in magnitude are not told apart (zeros are); values
/// above 2^128 lie in bins as fine, up to 2^129. Where a state has seen bfloat16 alone, low = high: the bins are all
/// numbers of that format.
///
/// # Cost
/// One read, a few microseconds a call, and 1 KiB for every factor of two between the values' magnitudes. A worker
/// counts in 1 MiB that calls use one after the other and that is kept. An array with a NaN or an infinity is copied
/// without them and read once more.
class Distribution {
 public:
  /// Takes the values of x, in any order of their axes. Formats: double, float, bf16, f16. No values: nothing changes.
  /// If it throws (the poll of `execution`, ForkError, bad_alloc), the state is as it was.
  template <class T>
  void update(const RowsView<const T>& x, const Execution& execution = {});

  void merge(const Distribution& other);

  std::uint64_t count() const { return totals_.count; }
  /// NaNs and infinities left out.
  std::uint64_t nonfinite() const { return nonfinite_; }
  /// Values above zero.
  std::uint64_t positives() const { return positives_; }
  std::size_t bytes() const { return sizeof *this + pages_.capacity() * sizeof(Page); }
  LinkStatistics statistics() const;

  /// A state taken apart, and made again exactly.
  struct Parts {
    /// Without bins and density.
    LinkStatistics totals;
    std::uint64_t nonfinite = 0, positives = 0;
    /// Whether only bfloat16 was seen.
    bool narrow = true;
    /// Ascending, from 0 to 65535: sign, exponent and seven bits of the fraction of a float32; and how many values.
    std::vector<std::int64_t> keys, counts;
  };
  Parts parts() const;
  /// Throws ValueError, ShapeError, NonFinite: parts that no state has.
  static Distribution from_parts(const Parts& parts);

 private:
  static constexpr std::size_t kPageKeys = 128;
  using Page = std::array<std::uint64_t, kPageKeys>;

  void absorb(const network::Delta& more);
  template <class Use>
  void each_key(const Use& use) const;

  LinkStatistics totals_;
  std::uint64_t nonfinite_ = 0, positives_ = 0;
  bool narrow_ = true;
  /// One more than where in pages_ the counts of 128 keys stand; 0: there are none.
  std::array<std::uint16_t, 65536 / kPageKeys> places_{};
  std::vector<Page> pages_;
};

/// The sums of each row, or of each column.
struct LinkSums {
  std::vector<double> sum, absolute, square;
};

struct LinkOptions {
  bool statistics = true, sums = true;
  /// What messages begin with.
  const char* function = "link_survey";
};

/// A part that was not asked for is empty.
struct LinkSurvey {
  LinkStatistics statistics;
  LinkSums rows, columns;
};

/// T: double, float, bf16, f16, f8e4m3, f8e5m2, int8, uint8.
/// Throws ShapeError: no weights. NonFinite: names the first NaN or infinity by [row, column].
template <class T>
LinkSurvey link_survey(const MatrixView<const T>& w, const LinkOptions& options = {}, const Execution& execution = {});

}  // namespace netassay
