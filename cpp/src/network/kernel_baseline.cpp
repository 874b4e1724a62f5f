namespace netassay::network {
namespace {

typedef int Integers __attribute__((vector_size(16)));
typedef double Vector __attribute__((vector_size(16)));
Vector load(const float* p) { return Vector{p[0], p[1]}; }
Integers widen(const signed char* p) { return Integers{p[0], p[1], p[2], p[3]}; }
Integers widen(const unsigned char* p) { return Integers{p[0], p[1], p[2], p[3]}; }
Integers square_of(Integers v) { return v * v; }

}  // namespace
}  // namespace netassay::network

#include "network/kernel_lanes.hpp"

namespace netassay::network {

constinit const SumKernels kSumsBaseline = kSums;

}  // namespace netassay::network
