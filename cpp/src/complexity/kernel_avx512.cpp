#include <immintrin.h>

#include <cstdint>

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

constexpr int kVectorBytes = 64;

typedef double Wide __attribute__((vector_size(kVectorBytes)));

template <Format kFormat, class U>
Wide widen(const U* p) {
  if constexpr (kFormat == Format::float64) {
    return (Wide)_mm512_loadu_pd(p);
  } else if constexpr (kFormat == Format::float32) {
    return (Wide)_mm512_cvtps_pd(_mm256_loadu_ps(reinterpret_cast<const float*>(p)));
  } else {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    if constexpr (kFormat == Format::float16) return (Wide)_mm512_cvtps_pd(_mm256_maskz_cvtph_ps(0xff, narrow));
    return (Wide)_mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16)));
  }
}
double total(Wide v) { return _mm512_reduce_add_pd((__m512d)v); }

/// The instructions that have the width of a number in their names. `is`: which numbers.
template <class U>
struct Masked;

template <>
struct Masked<std::uint16_t> {
  typedef __mmask32 M;
  static M less(__m512i a, __m512i b) { return _mm512_cmplt_epi16_mask(a, b); }
  static __m512i most(__m512i a, __m512i b) { return _mm512_max_epi16(a, b); }
  static __m512i minus(__m512i a, M is, __m512i b) { return _mm512_mask_sub_epi16(a, is, a, b); }
  static __m512i load(__m512i fill, M is, const void* p) { return _mm512_mask_loadu_epi16(fill, is, p); }
  static void store(void* p, M is, __m512i v) { _mm512_mask_storeu_epi16(p, is, v); }
};

template <>
struct Masked<std::uint32_t> {
  typedef __mmask16 M;
  static M less(__m512i a, __m512i b) { return _mm512_cmplt_epi32_mask(a, b); }
  static __m512i most(__m512i a, __m512i b) { return _mm512_max_epi32(a, b); }
  static __m512i minus(__m512i a, M is, __m512i b) { return _mm512_mask_sub_epi32(a, is, a, b); }
  static __m512i load(__m512i fill, M is, const void* p) { return _mm512_mask_loadu_epi32(fill, is, p); }
  static void store(void* p, M is, __m512i v) { _mm512_mask_storeu_epi32(p, is, v); }
};

template <>
struct Masked<std::uint64_t> {
  typedef __mmask8 M;
  static M less(__m512i a, __m512i b) { return _mm512_cmplt_epi64_mask(a, b); }
  static __m512i most(__m512i a, __m512i b) { return _mm512_max_epi64(a, b); }
  static __m512i minus(__m512i a, M is, __m512i b) { return _mm512_mask_sub_epi64(a, is, a, b); }
  static __m512i load(__m512i fill, M is, const void* p) { return _mm512_mask_loadu_epi64(fill, is, p); }
  static void store(void* p, M is, __m512i v) { _mm512_mask_storeu_epi64(p, is, v); }
};

template <class U>
struct Lanes {
  typedef signed_of<U> V __attribute__((vector_size(kVectorBytes)));
  typedef Masked<U> Of;
  typedef typename Of::M M;
  static constexpr bool kPartial = true;

  static M less(V a, V b) { return Of::less((__m512i)a, (__m512i)b); }
  static V most(V a, V b) { return (V)Of::most((__m512i)a, (__m512i)b); }
  static V plus(V to, M is) { return (V)Of::minus((__m512i)to, is, _mm512_set1_epi32(-1)); }
  static index_t count(M is) { return __builtin_popcount(is); }
  static std::uint64_t bits(M is) { return is; }
  static M first(index_t n) { return static_cast<M>((std::uint64_t{1} << n) - 1); }
  static V load(const U* p, index_t n, signed_of<U> fill) { return (V)Of::load((__m512i)(fill - V{}), first(n), p); }
  static void plus(U* p, index_t n, M is) {
    Of::store(p, first(n), (__m512i)plus((V)Of::load(_mm512_setzero_si512(), first(n), p), is));
  }
};

}  // namespace
}  // namespace netassay::complexity

#include "complexity/kernel_lanes.hpp"

namespace netassay::complexity {

constinit const Kernels kCountsAvx512 = kCounts;

}  // namespace netassay::complexity
