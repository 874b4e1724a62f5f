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

/// A number format: the integer that holds it, its sign, and the first key that is no finite number (0: none).
template <class T>
struct Format;
template <>
struct Format<double> {
  using Key = std::uint64_t;
  static constexpr Sign sign = Sign::bit;
  static constexpr Key nonfinite = 0x7ff0000000000000u;
  static constexpr auto kernel = &SurveyKernels::f64;
};
template <>
struct Format<float> {
  using Key = std::uint32_t;
  static constexpr Sign sign = Sign::bit;
  static constexpr Key nonfinite = 0x7f800000u;
  static constexpr auto kernel = &SurveyKernels::f32;
};
template <>
struct Format<bf16> {
  using Key = std::uint16_t;
  static constexpr Sign sign = Sign::bit;
  static constexpr Key nonfinite = 0x7f80u;
  static constexpr auto kernel = &SurveyKernels::f16;
};
template <>
struct Format<f16> {
  using Key = std::uint16_t;
  static constexpr Sign sign = Sign::bit;
  static constexpr Key nonfinite = 0x7c00u;
  static constexpr auto kernel = &SurveyKernels::f16;
};
template <>
struct Format<f8e4m3> {
  using Key = std::uint8_t;
  static constexpr Sign sign = Sign::bit;
  static constexpr Key nonfinite = 0x7fu;
  static constexpr auto kernel = &SurveyKernels::f8;
};
template <>
struct Format<f8e5m2> {
  using Key = std::uint8_t;
  static constexpr Sign sign = Sign::bit;
  static constexpr Key nonfinite = 0x7cu;
  static constexpr auto kernel = &SurveyKernels::f8;
};
template <>
struct Format<std::int8_t> {
  using Key = std::uint8_t;
  static constexpr Sign sign = Sign::twos_complement;
  static constexpr Key nonfinite = 0;
  static constexpr auto kernel = &SurveyKernels::i8;
};
template <>
struct Format<std::uint8_t> {
  using Key = std::uint8_t;
  static constexpr Sign sign = Sign::none;
  static constexpr Key nonfinite = 0;
  static constexpr auto kernel = &SurveyKernels::u8;
};

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
