#include <immintrin.h>

namespace netassay::network {
namespace {

typedef double Vector __attribute__((vector_size(32)));
Vector load(const float* p) { return (Vector)_mm256_cvtps_pd(_mm_loadu_ps(p)); }

}  // namespace
}  // namespace netassay::network

#include "network/kernel_lanes.hpp"

namespace netassay::network {

constinit const SumKernels kSumsAvx2 = kSums;

}  // namespace netassay::network
