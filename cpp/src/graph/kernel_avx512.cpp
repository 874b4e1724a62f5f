#include <immintrin.h>

#include <cstdint>

#include "graph/kernel_lanes.hpp"

namespace netassay::graph {
namespace {

template <class K, Sign kSign>
struct Lanes {
  using Key = K;
  using V = __m512i;
  static constexpr Sign sign = kSign;
  static constexpr index_t count = 64 / static_cast<index_t>(sizeof(K));

  static V load(const K* p) { return _mm512_loadu_si512(p); }
  static V all(K key) {
    if constexpr (sizeof(K) == 1) return _mm512_set1_epi8(static_cast<char>(key));
    if constexpr (sizeof(K) == 2) return _mm512_set1_epi16(static_cast<short>(key));
    if constexpr (sizeof(K) == 4) return _mm512_set1_epi32(static_cast<int>(key));
    if constexpr (sizeof(K) == 8) return _mm512_set1_epi64(static_cast<long long>(key));
  }
  static V min(V a, V b) {
    if constexpr (sizeof(K) == 1) return _mm512_min_epu8(a, b);
    if constexpr (sizeof(K) == 2) return _mm512_min_epu16(a, b);
    if constexpr (sizeof(K) == 4) return _mm512_min_epu32(a, b);
    if constexpr (sizeof(K) == 8) return _mm512_min_epu64(a, b);
  }
  static V max(V a, V b) {
    if constexpr (sizeof(K) == 1) return _mm512_max_epu8(a, b);
    if constexpr (sizeof(K) == 2) return _mm512_max_epu16(a, b);
    if constexpr (sizeof(K) == 4) return _mm512_max_epu32(a, b);
    if constexpr (sizeof(K) == 8) return _mm512_max_epu64(a, b);
  }
  static V strip(V raw) {
    if constexpr (kSign == Sign::bit) return _mm512_and_si512(raw, all(static_cast<K>(static_cast<K>(~K{0}) >> 1)));
    if constexpr (kSign == Sign::twos_complement) return _mm512_abs_epi8(raw);
    return raw;
  }
  static std::uint64_t above(V a, V b) {
    if constexpr (sizeof(K) == 1) return _mm512_cmpgt_epu8_mask(a, b);
    if constexpr (sizeof(K) == 2) return _mm512_cmpgt_epu16_mask(a, b);
    if constexpr (sizeof(K) == 4) return _mm512_cmpgt_epu32_mask(a, b);
    if constexpr (sizeof(K) == 8) return _mm512_cmpgt_epu64_mask(a, b);
  }
  static std::uint64_t equal(V a, V b) {
    if constexpr (sizeof(K) == 1) return _mm512_cmpeq_epu8_mask(a, b);
    if constexpr (sizeof(K) == 2) return _mm512_cmpeq_epu16_mask(a, b);
    if constexpr (sizeof(K) == 4) return _mm512_cmpeq_epu32_mask(a, b);
    if constexpr (sizeof(K) == 8) return _mm512_cmpeq_epu64_mask(a, b);
  }
};

}  // namespace

constinit const SurveyKernels kSurveyAvx512 = survey_kernels<Lanes>;

}  // namespace netassay::graph
