#include <immintrin.h>

namespace netassay::network {
namespace {

typedef int Integers __attribute__((vector_size(32)));
typedef double Vector __attribute__((vector_size(32)));
Vector load(const float* p) { return (Vector)_mm256_cvtps_pd(_mm_loadu_ps(p)); }
Integers widen(const signed char* p) {
  return (Integers)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
Integers widen(const unsigned char* p) {
  return (Integers)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
Integers square_of(Integers v) { return (Integers)_mm256_madd_epi16((__m256i)v, (__m256i)v); }

}  // namespace
}  // namespace netassay::network

#include "network/kernel_lanes.hpp"

namespace netassay::network {

constinit const SumKernels kSumsAvx2 = kSums;

}  // namespace netassay::network
