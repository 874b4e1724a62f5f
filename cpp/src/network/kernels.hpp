#pragma once
/// Which kernels sum weights of T, and what they are given.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "netassay/base/cpu.hpp"
#include "network/counts.hpp"
#include "network/kernel.hpp"
#include "network/power.hpp"

namespace netassay::network {

inline const SumKernels& kernels_here() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::amx:
    case Isa::avx512:
      return kSumsAvx512;
    case Isa::avx2:
      return kSumsAvx2;
    case Isa::baseline:
      break;
  }
#endif
  return kSumsBaseline;
}

/// What the kernels sum weights of T as.
template <class T>
using Summed = std::conditional_t<sizeof(T) == 8, double, float>;

template <class T>
const SumKernel<Summed<T>>& kernel() {
  if constexpr (sizeof(T) == 8) {
    return kernels_here().f64;
  } else {
    return kernels_here().f32;
  }
}

/// n numbers as the kernels take them: in place, or widened into `scratch`.
template <class T>
const Summed<T>* summed(const T* run, index_t n, Summed<T>* scratch) {
  if constexpr (sizeof(T) >= 4) {
    return run;
  } else if constexpr (sizeof(T) == 2) {
    const auto* bits = reinterpret_cast<const std::uint16_t*>(run);
    (std::is_same_v<T, bf16> ? kernels_here().widen_bf16 : kernels_here().widen_f16)(bits, n, scratch);
    return scratch;
  } else {
    static const auto table = [] {
      std::array<float, 256> values;
      for (int k = 0; k < 256; ++k) {
        values[static_cast<std::size_t>(k)] =
            static_cast<float>(number(std::bit_cast<T>(static_cast<std::uint8_t>(k))));
      }
      return values;
    }();
    for (index_t j = 0; j < n; ++j) scratch[j] = table[key(run[j])];
    return scratch;
  }
}

/// Whether weights are counted in the read that sums them, where both are wanted.
template <class T>
inline constexpr bool kSurveyed = sizeof(T) > 2 || std::is_same_v<T, bf16> || std::is_integral_v<T>;

/// The sums of a tile's columns: plain, absolute, square, one after the other. In integers where weights are, which
/// join the float64 sums before they might not hold them.
template <class T>
class Columns {
 public:
  explicit Columns(index_t cols) : cols_(cols) {}

  /// So many rows are about to be added.
  void expect(int rows) {
    if (sums_.empty()) sums_.resize(static_cast<std::size_t>(3 * cols_));
    if constexpr (std::is_integral_v<T>) {
      if (pending_ + rows > kMostIntegerRows) flush();
      whole_.resize(sums_.size());
      pending_ += rows;
    }
  }
  std::vector<double> take() {
    if constexpr (std::is_integral_v<T>) flush();
    return std::move(sums_);
  }

  ColumnSums from(index_t j) {
    double* const at = sums_.data() + j;
    return {at, at + cols_, at + 2 * cols_};
  }
  IntegerColumns integers_from(index_t j) {
    std::int32_t* const at = whole_.data() + j;
    return {at, at + cols_, at + 2 * cols_};
  }

 private:
  void flush() {
    for (std::size_t k = 0; k < whole_.size(); ++k) sums_[k] += whole_[k];
    std::fill(whole_.begin(), whole_.end(), 0);
    pending_ = 0;
  }

  index_t cols_, pending_ = 0;
  std::vector<double> sums_;
  std::vector<std::int32_t> whole_;
};

/// Adds runs of rows that lie side by side to their columns from j on, and to each row's sums; counts the weights and
/// adds their powers about 0, but the first two, where there are counts.
template <class T>
void sum_runs(const T* const* runs, int rows, index_t n, Columns<T>& columns, index_t j, Sums* into,
              std::uint32_t* counts, Powers& total) {
  if constexpr (std::is_same_v<T, std::int8_t>) {
    kernels_here().i8.sums(runs, rows, n, columns.integers_from(j), into, counts);
  } else if constexpr (std::is_same_v<T, std::uint8_t>) {
    kernels_here().u8.sums(runs, rows, n, columns.integers_from(j), into, counts);
  } else if constexpr (sizeof(T) >= 4) {
    if (counts == nullptr) {
      kernel<T>().sums(runs, rows, n, columns.from(j), into);
    } else {
      add(kernel<T>().survey(runs, rows, n, columns.from(j), into, counts), total);
    }
  } else {
    std::array<std::array<float, kSideRun>, kTogether> scratch;
    std::array<const float*, kTogether> wide{};
    std::array<const std::uint16_t*, kTogether> keys{};
    for (int r = 0; r < rows; ++r) {
      const auto s = static_cast<std::size_t>(r);
      wide[s] = summed(runs[r], n, scratch[s].data());
      if constexpr (sizeof(T) == 2) keys[s] = reinterpret_cast<const std::uint16_t*>(runs[r]);
    }
    if (counts == nullptr) {
      kernel<T>().sums(wide.data(), rows, n, columns.from(j), into);
    } else {
      kernels_here().sums_of_keys(wide.data(), keys.data(), rows, n, columns.from(j), into, counts);
    }
  }
}

}  // namespace netassay::network
