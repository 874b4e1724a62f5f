#include "stats/kernel_lanes.hpp"

namespace netassay::stats {

constinit const ScatterKernel<float> kScatterBaseline = Lanes<float, 4, 4>::kernel;
constinit const ScatterKernel<double> kScatterBaselineWide = Lanes<double, 2, 4>::kernel;

}  // namespace netassay::stats
