#pragma once
/// Counts of one batch, added to those of a state.

#include <cstdint>
#include <memory>
#include <vector>

#include "netassay/complexity.hpp"

namespace netassay::complexity {

/// What `counts` may still be: arrays of the sizes that units and shape ask for, zero.
void allocate(SwitchingCounts& counts, const SwitchingOptions& options, bool positions);
/// Adds the arrays of integers that `to` still keeps; neither patterns nor moments.
void add(SwitchingCounts& to, const SwitchingCounts& from);
/// Moments of a part of a unit's finite numbers: how many, their mean, and the sum of squares about it.
struct Part {
  std::int64_t finite = 0;
  double mean = 0, scatter = 0;
};
/// Adds another part (Chan, Golub, LeVeque 1979).
void join(SwitchingCounts& to, index_t unit, const Part& from);
/// Forgets what needs positions to be the same ones.
void forget_positions(SwitchingCounts& counts);

/// A batch and how it will be counted. Nothing is allocated after it is made.
class Counting {
 public:
  virtual ~Counting() = default;
  /// Adds the batch to arrays that are allocated, and its patterns to words that are 0; means, if there are any, become
  /// those of every sample and unit.
  virtual void run(SwitchingCounts& into, const std::int64_t* labels, std::uint64_t* patterns, double* means,
                   const Execution& how) = 0;
};

/// positions: count them each. classes: there are labels.
template <class T>
std::unique_ptr<Counting> counting(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                   int threads);

inline index_t product(const std::vector<index_t>& extents) {
  index_t all = 1;
  for (const index_t extent : extents) all *= extent;
  return all;
}

inline std::vector<index_t> extents(const std::vector<Axis>& axes) {
  std::vector<index_t> out;
  for (const Axis& axis : axes) out.push_back(axis.extent);
  return out;
}

}  // namespace netassay::complexity
