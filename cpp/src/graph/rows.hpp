#pragma once
/// Where keys come from: stored numbers as rows of integers that are in the order of their magnitudes.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "graph/kernel.hpp"
#include "netassay/base/cpu.hpp"
#include "netassay/base/scalar.hpp"
#include "netassay/base/view.hpp"

namespace netassay::graph {

/// A number format: the integer that holds it, its sign, the first key that is no finite number (0: none), and which of
/// the kernels surveys it.
template <class K, Sign kSign, K kNonfinite, auto kKernel>
struct Stored {
  using Key = K;
  static constexpr Sign sign = kSign;
  static constexpr Key nonfinite = kNonfinite;
  static constexpr auto kernel = kKernel;
};

template <class T>
struct Format;
template <>
struct Format<double> : Stored<std::uint64_t, Sign::bit, 0x7ff0000000000000u, &SurveyKernels::f64> {};
template <>
struct Format<float> : Stored<std::uint32_t, Sign::bit, 0x7f800000u, &SurveyKernels::f32> {};
template <>
struct Format<bf16> : Stored<std::uint16_t, Sign::bit, 0x7f80u, &SurveyKernels::f16> {};
template <>
struct Format<f16> : Stored<std::uint16_t, Sign::bit, 0x7c00u, &SurveyKernels::f16> {};
template <>
struct Format<f8e4m3> : Stored<std::uint8_t, Sign::bit, 0x7fu, &SurveyKernels::f8> {};
template <>
struct Format<f8e5m2> : Stored<std::uint8_t, Sign::bit, 0x7cu, &SurveyKernels::f8> {};
template <>
struct Format<std::int8_t> : Stored<std::uint8_t, Sign::twos_complement, 0, &SurveyKernels::i8> {};
template <>
struct Format<std::uint8_t> : Stored<std::uint8_t, Sign::none, 0, &SurveyKernels::u8> {};

inline const SurveyKernels& survey_kernels_here() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::amx:
    case Isa::avx512:
      return kSurveyAvx512;
    case Isa::avx2:
      return kSurveyAvx2;
    case Isa::baseline:
      break;
  }
#endif
  return kSurveyBaseline;
}

/// A matrix of stored numbers, row by row.
template <class T>
class StoredRows {
 public:
  using Key = typename Format<T>::Key;
  static constexpr Sign sign = Format<T>::sign;
  static constexpr Key nonfinite = Format<T>::nonfinite;

  explicit StoredRows(const MatrixView<const T>& w) : w_(w) {}

  index_t rows() const { return w_.rows; }
  index_t cols() const { return w_.cols; }
  const SurveyKernel<Key>& kernel() const { return survey_kernels_here().*Format<T>::kernel; }

  /// Row i as it is stored, side by side: in place where it is, else in `scratch` (cols elements).
  const Key* row(index_t i, Key* scratch) const {
    const T* from = w_.data + i * w_.row_stride;
    if (w_.col_stride == 1) return reinterpret_cast<const Key*>(from);
    for (index_t j = 0; j < w_.cols; ++j) scratch[j] = std::bit_cast<Key>(from[j * w_.col_stride]);
    return scratch;
  }
  /// The key of one element.
  Key key(index_t i, index_t j) const { return magnitude<sign, Key>(std::bit_cast<Key>(w_(i, j))); }

  /// The magnitude that a key stands for, exactly.
  static double value(std::uint64_t key) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<double>(key);
    } else {
      return static_cast<double>(widen(std::bit_cast<T>(static_cast<Key>(key))));
    }
  }

 private:
  MatrixView<const T> w_;
};

}  // namespace netassay::graph
