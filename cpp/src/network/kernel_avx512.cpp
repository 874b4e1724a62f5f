#include <immintrin.h>

namespace netassay::network {
namespace {

typedef double Vector __attribute__((vector_size(64)));
Vector load(const float* p) { return (Vector)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }

}  // namespace
}  // namespace netassay::network

#include "network/kernel_lanes.hpp"

namespace netassay::network {

constinit const SumKernels kSumsAvx512 = kSums;

}  // namespace netassay::network
