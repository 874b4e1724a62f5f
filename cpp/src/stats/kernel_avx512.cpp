#include "stats/kernel_lanes.hpp"

namespace netassay::stats {

constinit const ScatterKernel<float> kScatterAvx512 = Lanes<float, 16, 8>::kernel;
constinit const ScatterKernel<double> kScatterAvx512Wide = Lanes<double, 8, 8>::kernel;

}  // namespace netassay::stats
