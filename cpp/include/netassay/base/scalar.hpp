#pragma once
/// The number formats a tensor may be stored in, and how each is widened.

#include <bit>
#include <cstdint>

namespace netassay {

/// bfloat16: the upper half of a float32.
struct bf16 {
  std::uint16_t bits;
};

/// IEEE 754 half precision.
struct f16 {
  std::uint16_t bits;
};

/// 8-bit float with 4 exponent bits, no infinity (OCP E4M3, "fn"): magnitudes up to 448, NaN is all ones.
struct f8e4m3 {
  std::uint8_t bits;
};

/// 8-bit float with 5 exponent bits: the upper half of an IEEE half.
struct f8e5m2 {
  std::uint8_t bits;
};

inline double widen(double x) { return x; }
inline float widen(float x) { return x; }
inline float widen(bf16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

/// Exact for every half, denormals included, whatever the processor does with float denormals: exponents are rebiased
/// in integers, and a half denormal is its fraction times 2^-24.
inline float widen(f16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t fraction = x.bits & 0x7fffu;
  const std::uint32_t rebias = fraction >= 0x7c00u ? 224u << 23 : 112u << 23;
  const std::uint32_t normal = (fraction << 13) + rebias;
  const std::uint32_t denormal = std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24f);
  return std::bit_cast<float>(sign | (fraction >= 0x0400u ? normal : denormal));
}

inline float widen(f8e5m2 x) { return widen(f16{static_cast<std::uint16_t>(x.bits << 8)}); }

/// Exact: exponent and fraction are those of a half after 7 bits' shift, whose exponent bias is larger by 8.
inline float widen(f8e4m3 x) {
  if ((x.bits & 0x7fu) == 0x7fu) return widen(f16{0x7e00});
  const auto half = static_cast<std::uint16_t>((x.bits & 0x80u) << 8 | (x.bits & 0x7fu) << 7);
  return widen(f16{half}) * 0x1p8f;
}

/// The format a value of T is worked on in when the user asks for no more than T carries.
template <class T>
struct working {
  using type = float;
};
template <>
struct working<double> {
  using type = double;
};

}  // namespace netassay
