#pragma once
/// Which kernels sum weights of T, and what they are given.

#include <array>
#include <bit>
#include <type_traits>

#include "netassay/base/cpu.hpp"
#include "network/counts.hpp"
#include "network/kernel.hpp"

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

}  // namespace netassay::network
