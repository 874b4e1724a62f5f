#pragma once
/// What the ways of counting share.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "complexity/batch.hpp"
#include "complexity/patterns.hpp"
#include "complexity/sums.hpp"

namespace netassay::complexity {

/// Counters that a task changes all the time.
inline constexpr index_t kNearBytes = index_t{1} << 15;
/// Samples whose counts wait until all of their positions are counted.
inline constexpr index_t kSamples = 1024;
/// Numbers of a unit that are summed about one pivot, in whole samples: enough that counters of positions are seldom
/// added to the state.
inline constexpr index_t kSummed = index_t{1} << 18;
/// Numbers that are not worth a second thread.
inline constexpr index_t kFew = index_t{1} << 16;

/// A batch in parts for the threads, and what becomes of counts above thresholds.
template <class T>
class Divided : public Counting {
 public:
  using U = Bits<T>;

  void run(SwitchingCounts& into, const std::int64_t* labels, std::uint64_t* patterns, double* means,
           const Execution& given) final {
    means_ = means;
    const Execution how{static_cast<int>(threads_), given.poll};  // one scratch for each
    parallel_for(tiles_ * splits_, how, [&](index_t task, int worker) {
      const index_t tile = task % tiles_, split = task / tiles_;
      const Range part{tile * width_, std::min(batch_.units, (tile + 1) * width_), start(split), start(split + 1)};
      count(part, split == 0 ? into : others_[size(split - 1)], labels, worker);
    });
    for (const SwitchingCounts& other : others_) add(into, other);
    // in the order of samples, whatever the threads
    for (std::size_t k = 0; k < sums_.size(); ++k) join(into, static_cast<index_t>(k) % batch_.units, sums_[k]);
    if (patterns != nullptr) {
      parallel_for(samples(), how, [&](index_t n, int worker) {
        pack(batch_, n, kernel_, above_[0], lines_[size(worker)].data(), patterns);
      });
    }
  }

 protected:
  Divided(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions)
      : batch_(a),
        counts_positions_(positions && !a.positions.empty()),
        thresholds_(static_cast<index_t>(options.thresholds.size())),
        classes_(options.classes),
        kernel_(kernel<T>(options.sums)),
        group_(options.sums ? std::clamp<index_t>(kSummed / batch_.positions, 1, kSamples) : kSamples) {
    if (options.sums) sums_.resize(size(ceil_div(samples(), group_) * batch_.units));
    for (const double threshold : options.thresholds) above_.push_back(above<T>(threshold));
  }

  index_t samples() const { return static_cast<index_t>(batch_.samples.size()); }
  bool summed() const { return !sums_.empty(); }
  /// The first sample of a split; of sums between groups.
  index_t start(index_t split) const {
    if (!summed()) return split * samples() / splits_;
    return std::min(samples(), split * ceil_div(samples(), group_) / splits_ * group_);
  }

  /// Units of a task at most, and how many tasks there will be: samples are split where units are too few.
  void divide(const SwitchingOptions& options, const std::vector<index_t>& shape, index_t width, index_t unit,
              int threads, bool gathers) {
    if (samples() * batch_.units * batch_.positions < kFew) threads = 1;
    const index_t even = ceil_div(ceil_div(batch_.units, 2 * index_t{threads}), unit) * unit;
    width_ = std::min(width, threads == 1 ? width : even);
    tiles_ = ceil_div(batch_.units, width_);
    const index_t most = summed() ? ceil_div(samples(), group_) : samples();
    splits_ = tiles_ >= threads ? 1 : std::min<index_t>(most, ceil_div(2 * index_t{threads}, tiles_));
    threads_ = std::min<index_t>(threads, tiles_ * splits_);
    for (index_t k = 1; k < splits_; ++k) {
      SwitchingCounts& other = others_.emplace_back();
      other.units = batch_.units;
      other.shape = shape;
      allocate(other, options, counts_positions_);
    }
    lines_.resize(size(threads_));
    if (!gathers && !options.patterns) return;
    for (auto& line : lines_) line.resize(size(std::max(kRun, kTogether * width_)));
  }

  virtual void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) = 0;

  /// After a group of samples is summed: Summed::finish.
  void finish_sums(const Range& part, Summed<T>& sums, index_t rows, index_t each) {
    Part* const to = sums_.data() + part.from / group_ * batch_.units + part.first;
    sums.finish(batch_, part, rows, each, to, means_);
  }

  /// A sample's `on` counts above each threshold, (thresholds, units), become counts of states.
  void settle(const std::uint32_t* on, const Range& part, const std::int64_t* label, SwitchingCounts& into) const {
    const index_t units = part.last - part.first;
    for (index_t k = 0; k < thresholds_; ++k, on += units) {
      const std::size_t at = size(k * batch_.units + part.first);
      std::int64_t *const state = into.state.data() + at, *const square = into.square.data() + at;
      std::int64_t* const of_class =
          label == nullptr ? nullptr : into.class_state.data() + size(*label * thresholds_ * batch_.units) + at;
      const std::uint32_t* const more = k + 1 < thresholds_ ? on + units : nullptr;
      for (index_t c = 0; c < units; ++c) {
        const std::int64_t count = std::int64_t{on[c]} - (more == nullptr ? 0 : std::int64_t{more[c]});
        state[c] += count;
        square[c] += count * count;
        if (of_class != nullptr) of_class[c] += count;
      }
    }
  }
  void settle_state(std::int64_t count, index_t k, index_t unit, const std::int64_t* label,
                    SwitchingCounts& into) const {
    const std::size_t at = size(k * batch_.units + unit);
    into.state[at] += count;
    into.square[at] += count * count;
    if (label != nullptr) into.class_state[size(*label * states()) * size(batch_.units) + at] += count;
  }
  virtual index_t states() const { return thresholds_; }

  Batch<T> batch_;
  bool counts_positions_;
  index_t thresholds_, classes_;
  const CountKernel<U>& kernel_;
  index_t group_;                // samples whose counts wait until all of their positions are counted
  std::vector<Part> sums_ = {};  // (groups, units), if they are summed
  double* means_ = nullptr;      // (samples, units), if they are asked for
  std::vector<Above<U>> above_;
  index_t width_ = 1, tiles_ = 1, splits_ = 1, threads_ = 1;
  std::vector<SwitchingCounts> others_;
  std::vector<std::vector<U>> lines_;
};

}  // namespace netassay::complexity
