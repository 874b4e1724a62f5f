#include <immintrin.h>

namespace netassay::network {
namespace {

typedef int Integers __attribute__((vector_size(64)));
typedef double Vector __attribute__((vector_size(64)));
Vector load(const float* p) { return (Vector)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }
Integers widen(const signed char* p) {
  return (Integers)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
Integers widen(const unsigned char* p) {
  return (Integers)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
Integers square_of(Integers v) { return (Integers)_mm512_madd_epi16((__m512i)v, (__m512i)v); }

}  // namespace
}  // namespace netassay::network

#include "network/kernel_lanes.hpp"

namespace netassay::network {

constinit const SumKernels kSumsAvx512 = kSums;

}  // namespace netassay::network
