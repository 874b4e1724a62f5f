#pragma once
/// What states are counted with, one table of functions per instruction set.
///
/// This header is all that an instruction-set unit includes: nothing here needs code of its own.

#include <cstddef>
#include <cstdint>

namespace netassay::complexity {

using index_t = std::ptrdiff_t;

/// Numbers of a run at most: what it holds stays in the nearest cache, and counts of a run fit into two bytes.
inline constexpr index_t kRun = 8192;
/// Rows that are counted side by side. More would share too few places of the nearest cache
/// where rows are a power of two long.
inline constexpr index_t kTogether = 8;
/// Rows whose counts fit into two bytes, and so samples that are counted before counts are added to the state.
inline constexpr index_t kMostRows = 16384;
/// Bytes between what is read and what is asked for: a page, since the processor's own guess ends with it.
inline constexpr index_t kAhead = 4096;

template <class U>
struct Signed;
template <>
struct Signed<std::uint16_t> {
  using type = std::int16_t;
};
template <>
struct Signed<std::uint32_t> {
  using type = std::int32_t;
};
template <>
struct Signed<std::uint64_t> {
  using type = std::int64_t;
};
template <class U>
using signed_of = typename Signed<U>::type;

/// x > t for numbers as they are stored: bits, whatever the processor does with denormals. With the bits of negative
/// numbers flipped (`flip`; needed for t < 0 alone) their order as integers is that of the numbers, a NaN lies outside
/// -infinity ... infinity, and x > t where bits + add < limit, as signed integers.
template <class U>
struct Above {
  U add;
  signed_of<U> limit;
  signed_of<U> infinity;
  bool flip;
};

/// Of runs: numbers above the threshold, zeros of either sign, NaNs.
struct Tallies {
  std::uint32_t* on;
  std::int64_t *zero, *nan;
};

template <class U>
struct Lines {
  U *on, *zero, *nan;
};

/// Of the finite numbers of each run or column, about a pivot that is one of them: sums of x - pivot and of its square,
/// in float64; and how many numbers are not finite. Kernels that only count do not look at it.
template <class U>
struct Sums {
  const U* pivot = nullptr;
  double *sum = nullptr, *square = nullptr;
  std::uint32_t* left_out = nullptr;
};

/// A place of a window: where its number lies, and which place it is.
struct Place {
  index_t offset, number;
};
/// Units of which windows are looked at together: a multiple of this.
template <class U>
inline constexpr index_t kWindowUnits = 64 / index_t{sizeof(U)};

template <class U>
struct CountKernel {
  /// Runs of 1 <= n <= kRun numbers, `step` apart: adds to each run's tallies,
  /// and to counts[r * pitch + j], if there are counts.
  void (*runs)(const U* x, index_t runs, index_t step, index_t n, Above<U> above, Tallies tallies, U* counts,
               index_t pitch, Sums<U> sums);
  /// `rows` <= kTogether rows of n numbers: adds to the totals of every column, and to counts[r * pitch + j], if there
  /// are counts. What lies `ahead` bytes further is read soon.
  void (*columns)(const U* const* x, index_t rows, index_t n, index_t ahead, Above<U> above, Lines<U> totals, U* counts,
                  index_t pitch, Sums<U> sums);
  /// One window of n units side by side, n a multiple of kWindowUnits: which place holds the largest number, as
  /// complexity.hpp says. Adds to totals[(k - 1) * n + j] and counts[(k - 1) * n + j], if there are counts, where that
  /// is k > 0, and to nan[j] where there is a NaN.
  void (*window)(const U* x, const Place* places, index_t count, index_t states, index_t n, signed_of<U> infinity,
                 U* totals, U* counts, U* nan);
  /// Bit j % 8 of byte j / 8 is set where x[j] is on; the rest of the last byte is 0.
  void (*signs)(const U* x, index_t n, Above<U> above, unsigned char* bits);
};

/// How numbers are widened to be summed; none: they are counted alone.
enum class Format { none, float64, float32, bfloat16, float16 };

/// The tables of one instruction set: what counts, by the bytes of a number; what sums as well, by the format.
struct Kernels {
  CountKernel<std::uint16_t> two;
  CountKernel<std::uint32_t> four;
  CountKernel<std::uint64_t> eight;
  CountKernel<std::uint64_t> float64;
  CountKernel<std::uint32_t> float32;
  CountKernel<std::uint16_t> bfloat16, float16;
};

extern const Kernels kCountsBaseline;
#if defined(__x86_64__)
extern const Kernels kCountsAvx2;
extern const Kernels kCountsAvx512;
#endif

}  // namespace netassay::complexity
