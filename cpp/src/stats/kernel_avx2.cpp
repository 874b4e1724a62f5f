#include "stats/kernel_lanes.hpp"

namespace netassay::stats {

constinit const ScatterKernel<float> kScatterAvx2 = Lanes<float, 8, 4>::kernel;
constinit const ScatterKernel<double> kScatterAvx2Wide = Lanes<double, 4, 4>::kernel;

}  // namespace netassay::stats
