#include <immintrin.h>

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

template <class U>
struct Lanes;

template <>
struct Lanes<std::uint16_t> {
  typedef std::int16_t V __attribute__((vector_size(kVectorBytes)));
  typedef __mmask32 M;
  static constexpr bool kPartial = true;

  static M less(V a, V b) { return _mm512_cmplt_epi16_mask((__m512i)a, (__m512i)b); }
  static V most(V a, V b) { return (V)_mm512_max_epi16((__m512i)a, (__m512i)b); }
  static V plus(V to, M is) { return (V)_mm512_mask_sub_epi16((__m512i)to, is, (__m512i)to, _mm512_set1_epi16(-1)); }
  static index_t count(M is) { return __builtin_popcount(is); }
  static std::uint64_t bits(M is) { return is; }
  static M first(index_t n) { return static_cast<M>((std::uint64_t{1} << n) - 1); }
  static V load(const std::uint16_t* p, index_t n, std::int16_t fill) {
    return (V)_mm512_mask_loadu_epi16(_mm512_set1_epi16(fill), first(n), p);
  }
  static void plus(std::uint16_t* p, index_t n, M is) {
    _mm512_mask_storeu_epi16(p, first(n), (__m512i)plus((V)_mm512_maskz_loadu_epi16(first(n), p), is));
  }
};

template <>
struct Lanes<std::uint32_t> {
  typedef std::int32_t V __attribute__((vector_size(kVectorBytes)));
  typedef __mmask16 M;
  static constexpr bool kPartial = true;

  static M less(V a, V b) { return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b); }
  static V most(V a, V b) { return (V)_mm512_max_epi32((__m512i)a, (__m512i)b); }
  static V plus(V to, M is) { return (V)_mm512_mask_sub_epi32((__m512i)to, is, (__m512i)to, _mm512_set1_epi32(-1)); }
  static index_t count(M is) { return __builtin_popcount(is); }
  static std::uint64_t bits(M is) { return is; }
  static M first(index_t n) { return static_cast<M>((1u << n) - 1); }
  static V load(const std::uint32_t* p, index_t n, std::int32_t fill) {
    return (V)_mm512_mask_loadu_epi32(_mm512_set1_epi32(fill), first(n), p);
  }
  static void plus(std::uint32_t* p, index_t n, M is) {
    _mm512_mask_storeu_epi32(p, first(n), (__m512i)plus((V)_mm512_maskz_loadu_epi32(first(n), p), is));
  }
};

template <>
struct Lanes<std::uint64_t> {
  typedef std::int64_t V __attribute__((vector_size(kVectorBytes)));
  typedef __mmask8 M;
  static constexpr bool kPartial = true;

  static M less(V a, V b) { return _mm512_cmplt_epi64_mask((__m512i)a, (__m512i)b); }
  static V most(V a, V b) { return (V)_mm512_max_epi64((__m512i)a, (__m512i)b); }
  static V plus(V to, M is) { return (V)_mm512_mask_sub_epi64((__m512i)to, is, (__m512i)to, _mm512_set1_epi64(-1)); }
  static index_t count(M is) { return __builtin_popcount(is); }
  static std::uint64_t bits(M is) { return is; }
  static M first(index_t n) { return static_cast<M>((1u << n) - 1); }
  static V load(const std::uint64_t* p, index_t n, std::int64_t fill) {
    return (V)_mm512_mask_loadu_epi64(_mm512_set1_epi64(fill), first(n), p);
  }
  static void plus(std::uint64_t* p, index_t n, M is) {
    _mm512_mask_storeu_epi64(p, first(n), (__m512i)plus((V)_mm512_maskz_loadu_epi64(first(n), p), is));
  }
};

}  // namespace
}  // namespace netassay::complexity

#include "complexity/kernel_lanes.hpp"

namespace netassay::complexity {

constinit const Kernels kCountsAvx512 = kCounts;

}  // namespace netassay::complexity
