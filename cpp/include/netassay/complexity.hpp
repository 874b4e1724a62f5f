#pragma once
/// How often units switch between the linear pieces of their nonlinearity.
///
/// # Definition
/// The activations a in front of a nonlinearity are of N samples, C units and P positions each (P = 1 without
/// positions). The state k = 0, 1, ..., K - 1 of one number is how many of the K - 1 thresholds the number is
/// above (strictly). The state of a pooling window is which of its K places holds the largest number. With p_k the
/// share of state k,
///
///     C = -sum p_k log2 p_k
///
/// in bits, 0 log2 0 = 0: from 0 (a unit that never switches) to log2 K.
///
/// The `channel` rule: a unit is one of C, and p is over samples and positions. The `position` rule: a unit
/// is a channel at a position, and p is over samples. Then
///
///     C_channel - (mean of C_position over positions) = I(state; position) >= 0.
///
/// # Special numbers
/// Numbers are compared as their bits. 0 and -0.0 are not above 0; denormals are compared like other numbers, whatever
/// the processor does with them. +infinity is above every threshold, -infinity and NaN are above none. NaNs and zeros
/// are counted as well. In a window a NaN is less than any number, and the first of equal numbers counts. A window with
/// a NaN is counted once.
///
/// # Determinism
/// All counts are exact 64-bit integers. States therefore merge bit for bit in any order, and threads change nothing.
/// Threads change no bit of the sums either; the order of merges changes the sums in rounding.
///
/// # Sums
/// Sums, if they are asked for, come from the same read. They are, for every unit, the mean of its finite numbers over
/// samples and positions and the sum of squares about that mean, in float64. NaNs and infinities are left out and
/// counted. Groups of samples, fixed by the shape of a batch, are summed about one of their own numbers and joined in
/// order (Chan, Golub, LeVeque 1979). The same read gives the mean of every sample over its positions.
///
/// # Precision
/// The scatter is within q a 2^-53 relative. Here a is the number of additions in a row, at most some thousands, and q
/// is the sum of squares about the pivot over the sum of squares about the mean: q is near 1, or, where the pivot is an
/// outlier, at most the numbers of a group (2^18, or one sample). The error is 1e-15 as a rule. A mean r standard
/// deviations from zero adds r 2^-50, the cost of joining.
///
/// The mean of a sample over its positions is within (positions + 2) 2^-52 of the largest number. float64 numbers whose
/// squares pass the range of float64 give infinity or NaN. Sums may take denormals for 0, as the processor is set.
///
/// # Failure
/// A call that throws leaves the state as it was.
///
/// # Cost
/// An update reads the activations once; patterns need a second read. Counts of positions take 8 (K - 1) C P bytes.
/// While an update runs, it takes 8 bytes for each sample and each position, and at most 64 KB and 4 (K - 1) bytes (20
/// more with sums) for each of 1024 units of 1024 samples per thread. A window takes 16 bytes for each of its places
/// and outputs, 512 KB for counts and, where units are not side by side, 64 bytes for each position of a map. Where
/// units are too few for the threads, counts of parts of the samples are made side by side, each as large as the state.
///
/// # Source
/// Janik, Witaszczyk, "Complexity for deep neural networks and other characteristics of deep feature representations"
/// (arXiv 2006.04791). Its abstract and its authors' related code could be consulted: they confirm the states 1[a > 0],
/// not how convolutions are averaged. So both rules have names, and no table of the paper is claimed.

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"
#include "netassay/base/view.hpp"

namespace netassay {

/// Activations wherever they lie. The index tuples of the sample axes, in lexicographic order, are the samples; the
/// index tuples of the position axes are the positions.
template <class T>
struct ActivationsView {
  T* data;
  std::vector<Axis> samples;
  Axis units;
  std::vector<Axis> positions = {};
};

/// A pooling window over the position axes, as torch's MaxPool describes it; one number for each axis.
struct PoolWindow {
  std::vector<index_t> kernel, stride, padding, dilation;
  bool ceil_mode = false;

  /// Places of the window, in lexicographic order; K.
  index_t places() const;
  /// Windows along each axis of maps of that shape. Throws ShapeError: another number of axes, or no window fits.
  std::vector<index_t> outputs(const std::vector<index_t>& shape) const;
  bool operator==(const PoolWindow&) const = default;
};

struct SwitchingOptions {
  /// The thresholds, ascending; a window ignores them.
  std::vector<double> thresholds = {0.0};
  std::optional<PoolWindow> window = {};
  /// Keep counts of every position.
  bool positions = true;
  /// Labels are 0 ... classes - 1; there are no labels if it is 0.
  index_t classes = 0;
  /// Keep one bit for every sample, unit and position: above the threshold. One threshold only.
  bool patterns = false;
  /// Keep mean and scatter of every unit; not with a window.
  bool sums = false;

  index_t states() const;
};

/// What a state holds, as arrays in C order; all are empty before the first update but for `samples`, 0.
struct SwitchingCounts {
  index_t samples = 0;
  /// Numbers (windows) of each unit: samples times positions.
  std::int64_t observations = 0;
  index_t units = 0;
  /// The shape of the positions, or of the outputs of a window. Empty without positions, and once it has varied.
  std::vector<index_t> shape = {};
  bool shape_varies = false;
  /// (K - 1, units): numbers in states 1 ... K - 1.
  std::vector<std::int64_t> state = {};
  /// (units): numbers that are zero, numbers (windows) that are (have a) NaN.
  std::vector<std::int64_t> zero = {}, nan = {};
  /// (K - 1, units): q = sum over samples of (positions in state k)^2.
  std::vector<std::int64_t> square = {};
  /// (K - 1, units, positions) or empty: not kept, no position axes, or the shape has varied.
  std::vector<std::int64_t> position = {};
  /// (classes, K - 1, units), and numbers of each unit in each class (classes).
  std::vector<std::int64_t> class_state = {}, class_observations = {};
  /// (units), with sums: how many numbers are finite, their mean, and the sum of squares about it; all 0 where
  /// no number is finite.
  std::vector<std::int64_t> finite = {};
  std::vector<double> mean = {}, scatter = {};
  /// (samples, words of 64 bits): bit unit * positions + position, in the order of the samples.
  /// Empty once the shape has varied.
  std::vector<std::uint64_t> patterns = {};

  index_t positions() const;
  index_t words() const;
};

class Switching {
 public:
  using Options = SwitchingOptions;

  /// Throws ValueError: no thresholds, or thresholds that do not ascend or are not finite; patterns of more than two
  /// states; a window that cannot be.
  explicit Switching(Options options = {});

  /// Takes a batch. labels: one for each sample, if there are classes. memory: the bytes that the state may take.
  /// means: null or, with sums, (samples, units) places for the mean of each sample and unit over positions; the mean
  /// is NaN where one of these numbers is not finite.
  /// Throws ShapeError: no numbers, or another number of units. ValueError: labels outside 0 ... classes - 1.
  /// LimitExceeded: memory. ForkError.
  template <class T>
  void update(const ActivationsView<const T>& a, const std::int64_t* labels = nullptr, const Execution& how = {},
              double memory = std::numeric_limits<double>::infinity(), double* means = nullptr);

  /// Takes all that `other` has seen, in any order: only patterns are kept in the order of merges, and sums are rounded
  /// in that order. Throws ShapeError (units) or ValueError (options) if they differ.
  void merge(const Switching& other);

  /// Forgets all, the units too, and keeps the memory.
  void clear();

  /// Whether counts of positions go on with a batch whose position axes have that shape; true of an empty state.
  bool keeps_positions(const std::vector<index_t>& shape) const;
  /// Counts channels alone from now on, until `clear`, as if the shape had varied; an empty state too.
  void forget_positions();

  const Options& options() const { return options_; }
  const SwitchingCounts& counts() const { return counts_; }
  /// Throws ShapeError or ValueError for counts that do not fit together.
  static Switching from_counts(Options options, SwitchingCounts counts);

  /// C in bits: by the channel rule (units), and by the position rule (units, positions). Throw TooFewRows: no samples.
  std::vector<double> channel_bits() const;
  std::vector<double> position_bits() const;

  /// The bytes held now, and the bytes that a state of `samples` samples holds.
  double bytes() const;
  static double footprint(const Options& options, index_t units, index_t positions, index_t samples);

 private:
  Options options_;
  SwitchingCounts counts_;
};

}  // namespace netassay
