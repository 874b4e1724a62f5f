#include <immintrin.h>

#include <cstdint>

#include "graph/kernel_lanes.hpp"

namespace netassay::graph {
namespace {

template <class K, Sign kSign>
struct Lanes {
  using Key = K;
  using V = __m256i;
  static constexpr Sign sign = kSign;
  static constexpr index_t count = 32 / static_cast<index_t>(sizeof(K));

  static V load(const K* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static V all(K key) {
    if constexpr (sizeof(K) == 1) return _mm256_set1_epi8(static_cast<char>(key));
    if constexpr (sizeof(K) == 2) return _mm256_set1_epi16(static_cast<short>(key));
    if constexpr (sizeof(K) == 4) return _mm256_set1_epi32(static_cast<int>(key));
    if constexpr (sizeof(K) == 8) return _mm256_set1_epi64x(static_cast<long long>(key));
  }
  static V min(V a, V b) {
    if constexpr (sizeof(K) == 1) return _mm256_min_epu8(a, b);
    if constexpr (sizeof(K) == 2) return _mm256_min_epu16(a, b);
    if constexpr (sizeof(K) == 4) return _mm256_min_epu32(a, b);
    if constexpr (sizeof(K) == 8) return _mm256_blendv_epi8(a, b, greater(a, b));
  }
  static V max(V a, V b) {
    if constexpr (sizeof(K) == 1) return _mm256_max_epu8(a, b);
    if constexpr (sizeof(K) == 2) return _mm256_max_epu16(a, b);
    if constexpr (sizeof(K) == 4) return _mm256_max_epu32(a, b);
    if constexpr (sizeof(K) == 8) return _mm256_blendv_epi8(b, a, greater(a, b));
  }
  static V strip(V raw) {
    if constexpr (kSign == Sign::bit) return _mm256_and_si256(raw, all(static_cast<K>(static_cast<K>(~K{0}) >> 1)));
    if constexpr (kSign == Sign::twos_complement) return _mm256_min_epu8(raw, _mm256_sub_epi8(all(0), raw));
    return raw;
  }
  static std::uint64_t above(V a, V b) {
    if constexpr (sizeof(K) == 8) return mask(greater(a, b));
    return ~equal(max(a, b), b) & (~std::uint64_t{0} >> (64 - count));
  }
  static std::uint64_t equal(V a, V b) {
    if constexpr (sizeof(K) == 1) return mask(_mm256_cmpeq_epi8(a, b));
    if constexpr (sizeof(K) == 2) return mask(_mm256_cmpeq_epi16(a, b));
    if constexpr (sizeof(K) == 4) return mask(_mm256_cmpeq_epi32(a, b));
    if constexpr (sizeof(K) == 8) return mask(_mm256_cmpeq_epi64(a, b));
  }
  // A signed comparison: keys of 8 bytes have no top bit.
  static V greater(V a, V b) { return _mm256_cmpgt_epi64(a, b); }
  static std::uint64_t mask(V v) {
    if constexpr (sizeof(K) == 1) return static_cast<std::uint32_t>(_mm256_movemask_epi8(v));
    if constexpr (sizeof(K) == 2) {
      const auto bytes = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_packs_epi16(v, all(0))));
      return (bytes & 0xffu) | (bytes >> 8 & 0xff00u);
    }
    if constexpr (sizeof(K) == 4) return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(v)));
    if constexpr (sizeof(K) == 8) return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(v)));
  }
};

}  // namespace

constinit const SurveyKernels kSurveyAvx2 = survey_kernels<Lanes>;

}  // namespace netassay::graph
