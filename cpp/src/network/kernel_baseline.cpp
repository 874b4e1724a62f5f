namespace netassay::network {
namespace {

typedef double Vector __attribute__((vector_size(16)));
Vector load(const float* p) { return Vector{p[0], p[1]}; }

}  // namespace
}  // namespace netassay::network

#include "network/kernel_lanes.hpp"

namespace netassay::network {

constinit const SumKernels kSumsBaseline = kSums;

}  // namespace netassay::network
