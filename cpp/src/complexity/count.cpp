#include "complexity/count.hpp"

#include <cstddef>

#include "complexity/batch.hpp"
#include "complexity/ways.hpp"

namespace netassay::complexity {
namespace {

template <class Numbers>
void add_each(Numbers& to, const Numbers& from) {
  // what `to` has forgotten stays forgotten
  for (std::size_t k = 0; k < to.size(); ++k) to[k] += from[k];
}

}  // namespace

void allocate(SwitchingCounts& counts, const SwitchingOptions& options, bool positions) {
  const std::size_t units = size(counts.units), states = size(options.states() - 1) * units;
  counts.state.assign(states, 0);
  counts.zero.assign(units, 0);
  counts.nan.assign(units, 0);
  counts.square.assign(states, 0);
  if (positions && !counts.shape.empty()) counts.position.assign(states * size(product(counts.shape)), 0);
  counts.class_state.assign(size(options.classes) * states, 0);
  counts.class_observations.assign(size(options.classes), 0);
  if (!options.sums) return;
  counts.finite.assign(units, 0);
  counts.mean.assign(units, 0);
  counts.scatter.assign(units, 0);
}

void join(SwitchingCounts& to, index_t unit, const Part& from) {
  const std::size_t c = size(unit);
  if (from.finite == 0) return;
  const auto mine = static_cast<double>(to.finite[c]), theirs = static_cast<double>(from.finite);
  const double delta = from.mean - to.mean[c], share = theirs / (mine + theirs);
  to.finite[c] += from.finite;
  to.mean[c] += delta * share;
  to.scatter[c] += from.scatter + delta * delta * (mine * share);
}

void add(SwitchingCounts& to, const SwitchingCounts& from) {
  add_each(to.state, from.state);
  add_each(to.zero, from.zero);
  add_each(to.nan, from.nan);
  add_each(to.square, from.square);
  add_each(to.position, from.position);
  add_each(to.class_state, from.class_state);
  add_each(to.class_observations, from.class_observations);
}

void forget_positions(SwitchingCounts& counts) {
  counts.shape_varies = true;
  counts.shape.clear();
  counts.position.clear();
  counts.position.shrink_to_fit();
  counts.patterns.clear();
  counts.patterns.shrink_to_fit();
}

template <class T>
std::unique_ptr<Counting> counting(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                   int threads) {
  if (options.window) return by_windows(a, options, positions, threads);
  if (product(extents(a.positions)) == 1 || (a.units.stride == 1 && a.units.extent > 1)) {
    return by_columns(a, options, positions, threads);
  }
  return by_runs(a, options, positions, threads);
}

template std::unique_ptr<Counting> counting(const ActivationsView<const double>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> counting(const ActivationsView<const float>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> counting(const ActivationsView<const bf16>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> counting(const ActivationsView<const f16>&, const SwitchingOptions&, bool, int);

}  // namespace netassay::complexity
