#include <immintrin.h>

#include <cstdint>

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

constexpr int kVectorBytes = 32;

typedef double Wide __attribute__((vector_size(kVectorBytes)));

template <Format kFormat, class U>
Wide widen(const U* p) {
  if constexpr (kFormat == Format::float64) {
    return (Wide)_mm256_loadu_pd(reinterpret_cast<const double*>(p));
  } else if constexpr (kFormat == Format::float32) {
    return (Wide)_mm256_cvtps_pd(_mm_loadu_ps(reinterpret_cast<const float*>(p)));
  } else {
    const __m128i bits = _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    if constexpr (kFormat == Format::bfloat16) return (Wide)_mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(bits, 16)));
    // as base/scalar.hpp widens one
    const __m128i fraction = _mm_and_si128(bits, _mm_set1_epi32(0x7fff));
    const __m128i rebias = _mm_set1_epi32(112 << 23);
    const __m128i special = _mm_and_si128(_mm_cmpgt_epi32(fraction, _mm_set1_epi32(0x7bff)), rebias);
    const __m128i normal = _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(fraction, 13), rebias), special);
    const __m128 denormal = _mm_mul_ps(_mm_cvtepi32_ps(fraction), _mm_set1_ps(0x1p-24f));
    const __m128i is_normal = _mm_cmpgt_epi32(fraction, _mm_set1_epi32(0x03ff));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(bits, fraction), 16);
    const __m128i size = _mm_blendv_epi8(_mm_castps_si128(denormal), normal, is_normal);
    return (Wide)_mm256_cvtps_pd(_mm_castsi128_ps(_mm_or_si128(size, sign)));
  }
}
double total(Wide v) { return (v[0] + v[1]) + (v[2] + v[3]); }

template <class U>
struct Lanes {
  typedef signed_of<U> V __attribute__((vector_size(kVectorBytes)));
  typedef V M;
  static constexpr bool kPartial = false;

  static M less(V a, V b) { return (V)(a < b); }
  static V most(V a, V b) { return a > b ? a : b; }
  static V plus(V to, M is) { return to - is; }
  static index_t count(M is) {
    return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_epi8((__m256i)is))) / index_t{sizeof(U)};
  }
  static std::uint64_t bits(M is) {
    if constexpr (sizeof(U) == 8) {
      return static_cast<unsigned>(_mm256_movemask_pd((__m256d)is));
    } else if constexpr (sizeof(U) == 4) {
      return static_cast<unsigned>(_mm256_movemask_ps((__m256)is));
    } else {
      const __m128i narrow =
          _mm_packs_epi16(_mm256_castsi256_si128((__m256i)is), _mm256_extracti128_si256((__m256i)is, 1));
      return static_cast<unsigned>(_mm_movemask_epi8(narrow));
    }
  }
};

}  // namespace
}  // namespace netassay::complexity

#include "complexity/kernel_lanes.hpp"

namespace netassay::complexity {

constinit const Kernels kCountsAvx2 = kCounts;

}  // namespace netassay::complexity
