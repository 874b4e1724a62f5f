#pragma once
/// Which kernels count numbers of T, and what they are given.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "complexity/kernel.hpp"
#include "netassay/base/cpu.hpp"
#include "netassay/base/scalar.hpp"

namespace netassay::complexity {

inline const Kernels& kernels_here() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::amx:
    case Isa::avx512:
      return kCountsAvx512;
    case Isa::avx2:
      return kCountsAvx2;
    case Isa::baseline:
      break;
  }
#endif
  return kCountsBaseline;
}

/// What numbers of T are counted as.
template <class T>
using Bits =
    std::conditional_t<sizeof(T) == 8, std::uint64_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;

template <class T>
const CountKernel<Bits<T>>& kernel(bool sums) {
  const Kernels& all = kernels_here();
  if constexpr (sizeof(T) == 8) {
    return sums ? all.float64 : all.eight;
  } else if constexpr (sizeof(T) == 4) {
    return sums ? all.float32 : all.four;
  } else if constexpr (std::is_same_v<T, bf16>) {
    return sums ? all.bfloat16 : all.two;
  } else {
    return sums ? all.float16 : all.two;
  }
}

template <class T>
constexpr Bits<T> kInfinity = sizeof(T) == 8   ? static_cast<Bits<T>>(0x7ff0000000000000)
                              : sizeof(T) == 4 ? static_cast<Bits<T>>(0x7f800000)
                                               : static_cast<Bits<T>>(std::is_same_v<T, bf16> ? 0x7f80 : 0x7c00);

/// Bits of negative numbers flipped, so that the order of signed integers is that of numbers.
template <class U>
signed_of<U> ordered(U bits) {
  constexpr U sign = U{1} << (8 * sizeof(U) - 1);
  return static_cast<signed_of<U>>((bits & sign) != 0 ? bits ^ static_cast<U>(~sign) : bits);
}

/// The test of x > threshold: that of x > the largest number of the format that is not above the threshold.
template <class T>
Above<Bits<T>> above(double threshold) {
  using U = Bits<T>;
  using S = signed_of<U>;
  constexpr U sign = U{1} << (8 * sizeof(U) - 1);
  const auto value = [](U bits) { return static_cast<double>(widen(std::bit_cast<T>(bits))); };
  U low = 0;
  if constexpr (std::is_same_v<T, double>) {
    low = std::bit_cast<U>(threshold + 0.0);  // of -0.0 as well 0
  } else if (threshold != 0) {
    // between -infinity, which is not above it, and infinity, which is
    S from = ordered(static_cast<U>(kInfinity<T> | sign)), to = ordered(kInfinity<T>);
    while (from + 1 < to) {
      const S middle = static_cast<S>((static_cast<std::int64_t>(from) + to) >> 1);
      const U bits = static_cast<U>(ordered(static_cast<U>(middle)));  // its own inverse
      (value(bits) <= threshold ? from : to) = middle;
    }
    low = static_cast<U>(ordered(static_cast<U>(from)));
  }
  const bool flip = (low & sign) != 0;
  const auto least = static_cast<U>(ordered(low));
  return {static_cast<U>(sign - least - 1), static_cast<S>(static_cast<U>(kInfinity<T> - least + sign)),
          static_cast<S>(kInfinity<T>), flip};
}

}  // namespace netassay::complexity
