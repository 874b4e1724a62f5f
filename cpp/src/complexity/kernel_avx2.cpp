#include <immintrin.h>

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

constexpr int kVectorBytes = 32;

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
