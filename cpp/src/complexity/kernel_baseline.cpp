#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

constexpr int kVectorBytes = 16;

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
