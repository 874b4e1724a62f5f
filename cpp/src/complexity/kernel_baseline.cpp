#if defined(__x86_64__)
#include <cstdint>

#include <immintrin.h>
#endif

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

constexpr int kVectorBytes = 16;

typedef double Wide __attribute__((vector_size(kVectorBytes)));

float single(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

/// A number; of halves as base/scalar.hpp widens them.
template <Format kFormat, class U>
double widened(U bits) {
  if constexpr (kFormat == Format::float64) {
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
  } else if constexpr (kFormat == Format::float32) {
    return static_cast<double>(single(bits));
  } else if constexpr (kFormat == Format::bfloat16) {
    return static_cast<double>(single(std::uint32_t{bits} << 16));
  } else {
    const std::uint32_t fraction = bits & 0x7fffu;
    const std::uint32_t normal = (fraction << 13) + (fraction >= 0x7c00u ? 224u << 23 : 112u << 23);
    const float size = fraction >= 0x0400u ? single(normal) : static_cast<float>(fraction) * 0x1p-24f;
    return static_cast<double>((bits & 0x8000u) != 0 ? -size : size);
  }
}

template <Format kFormat, class U>
Wide widen(const U* p) {
  return Wide{widened<kFormat>(p[0]), widened<kFormat>(p[1])};
}
double total(Wide v) { return v[0] + v[1]; }

template <class U>
struct Lanes {
  typedef signed_of<U> V __attribute__((vector_size(kVectorBytes)));
  typedef V M;
  static constexpr bool kPartial = false;

  static M less(V a, V b) { return (V)(a < b); }
  static V most(V a, V b) { return a > b ? a : b; }
  static V plus(V to, M is) { return to - is; }
#if defined(__x86_64__)
  static index_t count(M is) {
    return __builtin_popcount(static_cast<unsigned>(_mm_movemask_epi8((__m128i)is))) / index_t{sizeof(U)};
  }
#else
  static index_t count(M is) {
    index_t sum = 0;
    for (unsigned k = 0; k < kVectorBytes / sizeof(U); ++k) sum -= static_cast<index_t>(is[k]);
    return sum;
  }
#endif
  static std::uint64_t bits(M is) {
    std::uint64_t mask = 0;
    for (unsigned k = 0; k < kVectorBytes / sizeof(U); ++k) mask |= static_cast<std::uint64_t>(is[k] & 1) << k;
    return mask;
  }
};

}  // namespace
}  // namespace netassay::complexity

#include "complexity/kernel_lanes.hpp"

namespace netassay::complexity {

constinit const Kernels kCountsBaseline = kCounts;

}  // namespace netassay::complexity
