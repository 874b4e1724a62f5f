#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "complexity/divided.hpp"
#include "complexity/ways.hpp"

namespace netassay::complexity {
namespace {

/// Positions side by side in memory: runs of one unit.
template <class T>
class Runs final : public Divided<T> {
  using Base = Divided<T>;
  using U = Bits<T>;

 public:
  Runs(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions, int threads)
      : Base(a, options, positions) {
    const index_t bytes = this->batch_.positions * this->thresholds_ * index_t{sizeof(U)};
    this->divide(options, extents(a.positions), std::clamp<index_t>(kNearBytes / bytes, 1, 1024), 1, threads,
                 this->batch_.segments.stride != 1);
    // tiles of segments whose counters stay near
    const index_t most = std::max(kRun, kNearBytes / (index_t{sizeof(U)} * this->thresholds_ * this->width_));
    for (std::size_t s = 0; s < this->batch_.segments.all.size();) {
      tiles_.push_back(s);
      index_t length = 0;
      while (s < this->batch_.segments.all.size() &&
             (length == 0 || length + this->batch_.segments.all[s].length <= most)) {
        length += this->batch_.segments.all[s++].length;
      }
      longest_ = std::max(longest_, length);
    }
    tiles_.push_back(this->batch_.segments.all.size());
    scratch_.resize(size(this->threads_));
    const index_t samples = std::min(this->group_, this->samples());
    for (Scratch& s : scratch_) {
      s.on.resize(size(this->thresholds_ * this->width_ * samples));
      if (this->counts_positions_) s.counters.resize(size(this->thresholds_ * this->width_ * longest_));
      s.aside.resize(size(2 * this->width_));
      if (options.sums) s.sums.allocate(samples, this->width_);
    }
  }

 private:
  struct Scratch {
    std::vector<std::uint32_t> on;  // (samples, thresholds, units)
    std::vector<U> counters;        // (thresholds, units, positions of a tile)
    std::vector<std::int64_t> aside;
    Summed<T> sums;
  };

  void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) override {
    for (index_t from = part.from; from < part.to; from += this->group_) {
      const Range some{part.first, part.last, from, std::min(part.to, from + this->group_)};
      Scratch& scratch = scratch_[size(worker)];
      std::fill(scratch.on.begin(), scratch.on.end(), 0);
      if (this->summed()) scratch.sums.start(this->batch_, some);
      for (std::size_t t = 0; t + 1 < tiles_.size(); ++t) count_tile(some, tiles_[t], tiles_[t + 1], into, worker);
      const index_t units = part.last - part.first;
      for (index_t n = some.from; n < some.to; ++n) {
        const std::uint32_t* const on = scratch.on.data() + (n - from) * this->thresholds_ * units;
        this->settle(on, part, labels ? labels + n : nullptr, into);
      }
      if (this->summed()) this->finish_sums(some, scratch.sums, some.to - from, this->batch_.positions);
    }
  }

  void count_tile(const Range& part, std::size_t first, std::size_t last, SwitchingCounts& into, int worker) {
    Scratch& scratch = scratch_[size(worker)];
    U* const line = this->lines_[size(worker)].data();
    const Segment* const segments = this->batch_.segments.all.data();
    const index_t start = segments[first].position;
    const index_t length = segments[last - 1].position + segments[last - 1].length - start;
    const index_t units = part.last - part.first, thresholds = this->thresholds_;
    std::fill(scratch.counters.begin(), scratch.counters.end(), U{0});
    const auto runs = this->kernel_.runs, again = kernel<T>(false).runs;  // sums are made once
    const bool in_place = this->batch_.segments.stride == 1;
    std::int64_t *const zero = into.zero.data() + part.first, *const nan = into.nan.data() + part.first;
    std::int64_t* const aside = scratch.aside.data();  // what the first threshold has counted
    for (index_t n = part.from; n < part.to; ++n) {
      std::uint32_t* const on = scratch.on.data() + (n - part.from) * thresholds * units;
      const U* const x = this->batch_.data + this->batch_.samples[size(n)] + part.first * this->batch_.unit_stride;
      // all units at a time where nothing must be gathered
      const index_t together = in_place ? units : 1;
      for (index_t c = 0; c < units; c += together) {
        for (std::size_t s = first; s < last; ++s) {
          const Segment& segment = segments[s];
          const U* const from = gathered(x + c * this->batch_.unit_stride + segment.offset,
                                         this->batch_.segments.stride, segment.length, line);
          for (index_t k = 0; k < thresholds; ++k) {
            U* const counters = this->counts_positions_
                                    ? scratch.counters.data() + (k * units + c) * length + (segment.position - start)
                                    : nullptr;
            const Tallies tallies{on + k * units + c, k == 0 ? zero + c : aside, k == 0 ? nan + c : aside + units};
            Sums<U> sums;
            if (k == 0 && this->summed()) {
              sums = scratch.sums.at((n - part.from) * units + c);
              sums.pivot += c;
            }
            (k == 0 ? runs : again)(from, together, this->batch_.unit_stride, segment.length, this->above_[size(k)],
                                    tallies, counters, length, sums);
          }
        }
      }
    }
    if (!this->counts_positions_) return;
    for (index_t k = 0; k < thresholds; ++k) {
      for (index_t c = 0; c < units; ++c) {
        std::int64_t* const to =
            into.position.data() + ((k * this->batch_.units + part.first + c) * this->batch_.positions + start);
        const U* const own = scratch.counters.data() + (k * units + c) * length;
        const U* const more = own + units * length;  // above the next threshold
        for (index_t s = 0; s < length; ++s) to[s] += static_cast<std::int64_t>(own[s]);
        if (k + 1 == thresholds) continue;
        for (index_t s = 0; s < length; ++s) to[s] -= static_cast<std::int64_t>(more[s]);
      }
    }
  }

  std::vector<std::size_t> tiles_;
  index_t longest_ = 0;
  std::vector<Scratch> scratch_;
};

}  // namespace

template <class T>
std::unique_ptr<Counting> by_runs(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                  int threads) {
  return std::make_unique<Runs<T>>(a, options, positions, threads);
}

template std::unique_ptr<Counting> by_runs(const ActivationsView<const double>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_runs(const ActivationsView<const float>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_runs(const ActivationsView<const bf16>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_runs(const ActivationsView<const f16>&, const SwitchingOptions&, bool, int);

}  // namespace netassay::complexity
