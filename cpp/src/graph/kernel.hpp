#pragma once
/// What a row of weights is surveyed with, one table of functions per instruction set.
///
/// Weights are compared as integers: the bits of a float without its sign are in the order of its magnitude. This
/// header is all that an instruction-set unit includes: nothing here is more than a declaration.

#include <cstddef>
#include <cstdint>

namespace netassay::graph {

using index_t = std::ptrdiff_t;

/// How a stored number becomes the key of its magnitude.
enum class Sign {
  bit,              // the top bit is the sign: floats
  twos_complement,  // signed integers
  none,             // unsigned integers
};

template <Sign kSign, class K>
constexpr K magnitude(K raw) {
  constexpr K top = static_cast<K>(K{1} << (8 * sizeof(K) - 1));
  if constexpr (kSign == Sign::bit) {
    return static_cast<K>(raw & static_cast<K>(~top));
  } else if constexpr (kSign == Sign::twos_complement) {
    return (raw & top) != 0 ? static_cast<K>(K{0} - raw) : raw;
  } else {
    return raw;
  }
}

/// Elements of a row, from `first` on, that pass: bit l stands for element first + l.
struct Hit {
  std::uint64_t lanes;
  std::uint32_t row, first;
};

/// Rows that are surveyed side by side: the bounds of their columns are then read once.
inline constexpr int kTogether = 4;

/// Hits that kTogether rows of n keys come to at most: vectors are of 16 bytes or more.
template <class K>
constexpr index_t most_hits(index_t n) {
  return kTogether * (n * index_t{sizeof(K)} / 16 + 1);
}

template <class K>
struct SurveyKernel {
  /// Where the keys of `count` <= kTogether rows of n exceed min(threshold, best[j]): writes hits and returns how many;
  /// those of an element come in the order of the rows. top[r] = the largest key of row r, 0 where n = 0. Keys, bounds
  /// and thresholds of 8 bytes have no top bit.
  index_t (*survey)(const K* const* rows, int count, index_t n, K threshold, const K* best, Hit* hits, K* top);
  /// The row's largest key, 0 where n = 0.
  K (*largest)(const K* row, index_t n);
  /// The first element whose key is `key`, n if there is none.
  index_t (*find)(const K* row, index_t n, K key);
};

/// The tables of one instruction set.
struct SurveyKernels {
  SurveyKernel<std::uint64_t> f64;
  SurveyKernel<std::uint32_t> f32;
  SurveyKernel<std::uint16_t> f16;
  SurveyKernel<std::uint8_t> f8, i8, u8;
};

extern const SurveyKernels kSurveyBaseline;
#if defined(__x86_64__)
extern const SurveyKernels kSurveyAvx2;
extern const SurveyKernels kSurveyAvx512;
#endif

}  // namespace netassay::graph
