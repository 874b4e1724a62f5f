#pragma once
/// What a run of weights is summed with, one table of functions per instruction set.
///
/// This header is all that an instruction-set unit includes: nothing here needs code of its own.

#include <cstddef>
#include <cstdint>

namespace netassay::network {

using index_t = std::ptrdiff_t;

/// Rows that are summed side by side: the sums of their columns are then read and written once. More would share too
/// few places of the nearest cache where rows are a power of two long.
inline constexpr int kTogether = 4;

/// Weights of a run at most: what a run holds stays in the nearest cache.
inline constexpr index_t kRun = 1024;
/// And of a run of several rows.
inline constexpr index_t kSideRun = 512;

/// Bytes between what is read and what is asked for: a page, since the processor's own guess ends with it.
inline constexpr index_t kAhead = 4096;

/// Weights are counted by a key of two bytes: sign, exponent and seven bits of the fraction of a float32. The exponent
/// of a float64 is held to a float32's range.
inline constexpr int kNarrow = 52 - 7;
inline constexpr std::int64_t kRebias = std::int64_t{1023 - 127} << 7;
inline constexpr std::int64_t kLargestKey = 0x7fff;

constexpr std::uint32_t leading(std::uint32_t bits) { return bits >> 16; }
constexpr std::uint64_t leading(std::uint64_t bits) {
  const auto magnitude = static_cast<std::int64_t>(bits << 1 >> (kNarrow + 1)) - kRebias;
  const std::int64_t above = magnitude < 0 ? 0 : magnitude;
  return static_cast<std::uint64_t>(above > kLargestKey ? kLargestKey : above) | bits >> 63 << 15;
}

/// Neighbours are counted in different tables, this far apart: a processor waits for a count that it has just written,
/// and zeros often follow each other.
inline constexpr int kTables = 4;
inline constexpr std::size_t kTable = 65536 + 144;

/// Sums of w, |w| and w^2.
struct Sums {
  double plain, absolute, square;
};

/// Of d = w scale - centre: sums of d, d^2, d^3, d^4; of w itself: least, most, how many are zero, and how many above.
struct Powers {
  double first, second, third, fourth;
  double least, most;
  std::uint64_t zeros, positives;
};

/// The columns' sums of w, |w| and w^2, from the first column of a run on.
struct ColumnSums {
  double *plain, *absolute, *square;
};

/// Runs are of n weights, 1 <= n <= kRun (kSideRun for those of several rows); sums are of float64.
template <class T>
struct SumKernel {
  /// Adds `count` <= kTogether rows to their columns and each row's sums to rows_into[r].
  void (*sums)(const T* const* rows, int count, index_t n, ColumnSums columns, Sums* rows_into);
  /// And counts the weights, and gives their powers about 0, where the first two are left to the rows' sums.
  Powers (*survey)(const T* const* rows, int count, index_t n, ColumnSums columns, Sums* rows_into,
                   std::uint32_t* counts);
  /// The powers of one run. Counts it too, where there are counts.
  Powers (*powers)(const T* run, index_t n, double scale, double centre, std::uint32_t* counts);
};

/// The same sums of columns, in integers: they hold 2^31 / 255^2 rows, kMostIntegerRows.
struct IntegerColumns {
  std::int32_t *plain, *absolute, *square;
};
inline constexpr index_t kMostIntegerRows = 32768;

/// Of one byte. Counts, where there are counts.
template <class T>
struct IntegerKernel {
  void (*sums)(const T* const* rows, int count, index_t n, IntegerColumns columns, Sums* rows_into,
               std::uint32_t* counts);
};

/// The tables of one instruction set; bf16 and f16 are widened first, exactly.
struct SumKernels {
  SumKernel<double> f64;
  SumKernel<float> f32;
  IntegerKernel<std::int8_t> i8;
  IntegerKernel<std::uint8_t> u8;
  /// f32.sums, and counts the keys that stand for the rows' weights.
  void (*sums_of_keys)(const float* const* rows, const std::uint16_t* const* keys, int count, index_t n,
                       ColumnSums columns, Sums* rows_into, std::uint32_t* counts);
  void (*widen_bf16)(const std::uint16_t* bits, index_t n, float* to);
  void (*widen_f16)(const std::uint16_t* bits, index_t n, float* to);
};

extern const SumKernels kSumsBaseline;
#if defined(__x86_64__)
extern const SumKernels kSumsAvx2;
extern const SumKernels kSumsAvx512;
#endif

}  // namespace netassay::network
