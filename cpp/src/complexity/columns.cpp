#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "complexity/divided.hpp"
#include "complexity/ways.hpp"

namespace netassay::complexity {
namespace {

/// Units of rows that are counted side by side: kTogether rows of them, and as many that are read ahead, stay near.
constexpr index_t kWidth = 512;

/// Units side by side in memory (or no positions): columns of rows.
template <class T>
class Columns final : public Divided<T> {
  using Base = Divided<T>;
  using U = Bits<T>;

 public:
  Columns(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions, int threads)
      : Base(a, options, positions), rows_(offsets(a.positions)) {
    this->divide(options, extents(a.positions), this->batch_.positions == 1 ? kWidth : 256, 64, threads,
                 this->batch_.unit_stride != 1);
    const index_t row = this->width_ * this->thresholds_ * index_t{sizeof(U)};
    together_ = std::min(this->batch_.positions, kMostRows);
    if (this->counts_positions_) together_ = std::min(together_, std::max(kTogether, 2 * kNearBytes / row));
    scratch_.resize(size(this->threads_));
    const index_t samples = std::min(this->group_, this->samples());
    for (Scratch& s : scratch_) {
      s.totals.resize(size((this->thresholds_ + 4) * this->width_));
      if (this->batch_.positions > 1) s.on.resize(size(this->thresholds_ * this->width_ * samples));
      if (this->counts_positions_) s.counters.resize(size(this->thresholds_ * together_ * this->width_));
      if (this->classes_ > 0) s.order.resize(size(this->samples()));
      if (options.sums) s.sums.allocate(this->batch_.positions == 1 ? 1 : samples, this->width_);
    }
  }

 private:
  struct Scratch {
    std::vector<U> totals;          // (thresholds + 4, units): on, zero, nan, and what is counted twice
    std::vector<std::uint32_t> on;  // (samples, thresholds, units)
    std::vector<U> counters;        // (thresholds, positions of a tile, units)
    std::vector<index_t> order;     // samples by class
    Summed<T> sums;
  };

  void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) override {
    if (this->batch_.positions > 1) return count_maps(part, into, labels, worker);
    if (!this->summed()) return count_rows(part, into, labels, worker);
    Summed<T>& sums = scratch_[size(worker)].sums;
    for (index_t from = part.from; from < part.to; from += this->group_) {
      const Range some{part.first, part.last, from, std::min(part.to, from + this->group_)};
      sums.start(this->batch_, some);
      count_rows(some, into, labels, worker);
      this->finish_sums(some, sums, 1, some.to - some.from);
    }
  }

  /// Adds rows at `offset(r)`, r = 0 ... rows - 1, to totals and, if there are any, to counters.
  template <class Offset>
  void add_rows(const Range& part, index_t rows, const Offset& offset, Scratch& scratch, Sums<U> sums, U* counters,
                U* line) {
    const index_t units = part.last - part.first, thresholds = this->thresholds_;
    U* const totals = scratch.totals.data();
    const auto columns = this->kernel_.columns, again = kernel<T>(false).columns;  // sums are made once
    for (index_t r = 0; r < rows; r += kTogether) {
      const index_t some = std::min(kTogether, rows - r);
      const U* x[kTogether];
      for (index_t k = 0; k < some; ++k) {
        const U* const from = this->batch_.data + offset(r + k) + part.first * this->batch_.unit_stride;
        x[k] = gathered(from, this->batch_.unit_stride, units, line + k * units);
      }
      const index_t next = r + kTogether < rows ? offset(r + kTogether) - offset(r) : 0;
      const index_t ahead = next * index_t{sizeof(U)};
      for (index_t k = 0; k < thresholds; ++k) {
        const Lines<U> lines{totals + k * units, totals + thresholds * units, totals + (thresholds + 1) * units};
        U* const here = counters == nullptr ? nullptr : counters + (k * together_ + r) * units;
        // zeros and NaNs are counted with the first threshold
        if (k == 0) {
          columns(x, some, units, ahead, this->above_[0], lines, here, units, sums);
        } else {
          U* const aside = lines.nan + units;
          again(x, some, units, ahead, this->above_[size(k)], {lines.on, aside, aside + units}, here, units, {});
        }
      }
    }
  }

  void take_special(const Range& part, Scratch& scratch, SwitchingCounts& into) const {
    const index_t units = part.last - part.first;
    const U* const zero = scratch.totals.data() + this->thresholds_ * units;
    for (index_t c = 0; c < units; ++c) {
      into.zero[size(part.first + c)] += static_cast<std::int64_t>(zero[c]);
      into.nan[size(part.first + c)] += static_cast<std::int64_t>(zero[units + c]);
    }
  }

  void count_rows(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) {
    Scratch& scratch = scratch_[size(worker)];
    index_t* const order = scratch.order.data();
    if (labels != nullptr) {
      for (index_t n = part.from; n < part.to; ++n) order[n] = n;
      std::sort(order + part.from, order + part.to, [labels](index_t a, index_t b) { return labels[a] < labels[b]; });
    }
    const index_t units = part.last - part.first;
    for (index_t from = part.from; from < part.to;) {
      index_t to = std::min(part.to, from + kMostRows);
      if (labels != nullptr) {
        while (labels[order[to - 1]] != labels[order[from]]) --to;
      }
      std::fill(scratch.totals.begin(), scratch.totals.end(), U{0});
      const auto offset = [&](index_t r) {
        return this->batch_.samples[size(labels != nullptr ? order[from + r] : from + r)];
      };
      const Sums<U> sums = this->summed() ? scratch.sums.at(0) : Sums<U>{};
      add_rows(part, to - from, offset, scratch, sums, nullptr, this->lines_[size(worker)].data());
      take_special(part, scratch, into);
      for (index_t k = 0; k < this->thresholds_; ++k) {
        const U* const on = scratch.totals.data() + k * units;
        for (index_t c = 0; c < units; ++c) {
          const auto more = k + 1 < this->thresholds_ ? static_cast<std::int64_t>(on[units + c]) : 0;
          const std::int64_t count = static_cast<std::int64_t>(on[c]) - more;
          const std::size_t at = size(k * this->batch_.units + part.first + c);
          into.state[at] += count;
          into.square[at] += count;  // of ones
          if (this->counts_positions_) into.position[at] += count;
          if (labels == nullptr) continue;
          into.class_state[size(labels[order[from]] * this->thresholds_ * this->batch_.units) + at] += count;
        }
      }
      from = to;
    }
  }

  void count_maps(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) {
    Scratch& scratch = scratch_[size(worker)];
    const index_t units = part.last - part.first, thresholds = this->thresholds_;
    for (index_t from = part.from; from < part.to; from += this->group_) {
      const index_t to = std::min(part.to, from + this->group_);
      const Range some{part.first, part.last, from, to};
      std::fill(scratch.on.begin(), scratch.on.end(), 0);
      if (this->summed()) scratch.sums.start(this->batch_, some);
      for (index_t s = 0; s < this->batch_.positions; s += together_) {
        const index_t rows = std::min(together_, this->batch_.positions - s);
        std::fill(scratch.counters.begin(), scratch.counters.end(), U{0});
        for (index_t n = from; n < to; ++n) {
          std::fill(scratch.totals.begin(), scratch.totals.end(), U{0});
          const index_t sample = this->batch_.samples[size(n)];
          const Sums<U> sums = this->summed() ? scratch.sums.at((n - from) * units) : Sums<U>{};
          add_rows(
              part, rows, [&](index_t r) { return sample + rows_[size(s + r)]; }, scratch, sums,
              this->counts_positions_ ? scratch.counters.data() : nullptr, this->lines_[size(worker)].data());
          std::uint32_t* const on = scratch.on.data() + (n - from) * thresholds * units;
          for (index_t k = 0; k < thresholds * units; ++k) on[k] += static_cast<std::uint32_t>(scratch.totals[size(k)]);
          take_special(part, scratch, into);
        }
        if (this->counts_positions_) take_positions(part, s, rows, scratch, into);
      }
      for (index_t n = from; n < to; ++n) {
        const std::uint32_t* const on = scratch.on.data() + (n - from) * thresholds * units;
        this->settle(on, part, labels ? labels + n : nullptr, into);
      }
      if (this->summed()) this->finish_sums(some, scratch.sums, to - from, this->batch_.positions);
    }
  }

  void take_positions(const Range& part, index_t s, index_t rows, const Scratch& scratch, SwitchingCounts& into) const {
    const index_t units = part.last - part.first;
    for (index_t k = 0; k < this->thresholds_; ++k) {
      const U* const own = scratch.counters.data() + k * together_ * units;
      const U* const more = own + together_ * units;
      for (index_t c = 0; c < units; ++c) {
        std::int64_t* const to =
            into.position.data() + ((k * this->batch_.units + part.first + c) * this->batch_.positions + s);
        for (index_t r = 0; r < rows; ++r) to[r] += static_cast<std::int64_t>(own[r * units + c]);
        if (k + 1 == this->thresholds_) continue;
        for (index_t r = 0; r < rows; ++r) to[r] -= static_cast<std::int64_t>(more[r * units + c]);
      }
    }
  }

  std::vector<index_t> rows_;  // offsets of positions
  index_t together_;
  std::vector<Scratch> scratch_;
};

}  // namespace

template <class T>
std::unique_ptr<Counting> by_columns(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                     int threads) {
  return std::make_unique<Columns<T>>(a, options, positions, threads);
}

template std::unique_ptr<Counting> by_columns(const ActivationsView<const double>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_columns(const ActivationsView<const float>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_columns(const ActivationsView<const bf16>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_columns(const ActivationsView<const f16>&, const SwitchingOptions&, bool, int);

}  // namespace netassay::complexity
