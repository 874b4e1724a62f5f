#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "complexity/divided.hpp"
#include "complexity/ways.hpp"
#include "complexity/windows.hpp"

namespace netassay::complexity {
namespace {

/// Which place of a window holds the largest number: units side by side, or brought there.
template <class T>
class Pooled final : public Divided<T> {
  using Base = Divided<T>;
  using U = Bits<T>;

 public:
  Pooled(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions, int threads)
      : Base(a, options, positions),
        gathers_(a.units.stride != 1 || a.units.extent % kWindowUnits<U> != 0),
        states_(options.states() - 1) {
    this->divide(options, options.window->outputs(extents(a.positions)), (gathers_ ? 1 : 4) * kWindowUnits<U>,
                 kWindowUnits<U>, threads, false);
    std::vector<Axis> axes = a.positions;
    if (gathers_) {
      rows_ = offsets(a.positions);
      index_t stride = this->width_;
      for (std::size_t k = axes.size(); k-- > 0; stride *= axes[k].extent) axes[k].stride = stride;
    }
    windows_.emplace(*options.window, axes);
    const index_t row = std::max<index_t>(1, states_ * this->width_);
    this->group_ = std::clamp<index_t>((index_t{1} << 20) / row, 1, std::min(kSamples, this->samples()));
    together_ = std::min(windows_->count(), kMostRows);
    if (this->counts_positions_) {
      together_ = std::clamp<index_t>(16 * kNearBytes / (row * index_t{sizeof(U)}), 1, together_);
    }
    scratch_.resize(size(this->threads_));
    for (Scratch& s : scratch_) {
      if (gathers_) s.map.resize(rows_.size() * size(this->width_));
      s.totals.resize(size(row));
      s.nan.resize(size(this->width_));
      s.on.resize(size(this->group_ * row));
      if (this->counts_positions_) s.counters.resize(size(together_ * row));
    }
  }

 private:
  struct Scratch {
    std::vector<U> map;             // (positions, units)
    std::vector<U> totals, nan;     // (states, units), (units): of some outputs of a sample
    std::vector<std::uint32_t> on;  // (samples, states, units)
    std::vector<U> counters;        // (outputs of a tile, states, units)
  };

  void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) override {
    Scratch& scratch = scratch_[size(worker)];
    const index_t units = part.last - part.first, wide = gathers_ ? this->width_ : units, row = states_ * wide;
    const index_t outputs = windows_->count();
    for (index_t from = part.from; from < part.to; from += this->group_) {
      const index_t to = std::min(part.to, from + this->group_);
      std::fill(scratch.on.begin(), scratch.on.end(), 0);
      for (index_t o = 0; o < outputs; o += together_) {
        const index_t some = std::min(together_, outputs - o);
        std::fill(scratch.counters.begin(), scratch.counters.end(), U{0});
        for (index_t n = from; n < to; ++n) {
          std::fill(scratch.totals.begin(), scratch.totals.end(), U{0});
          std::fill(scratch.nan.begin(), scratch.nan.end(), U{0});
          const U* const x = map(part, n, scratch);
          for (index_t r = 0; r < some; ++r) {
            const std::span<const Place> places = windows_->at(o + r);
            U* const here = this->counts_positions_ ? scratch.counters.data() + r * row : nullptr;
            this->kernel_.window(x, places.data(), static_cast<index_t>(places.size()), states_ + 1, wide,
                                 static_cast<signed_of<U>>(kInfinity<T>), scratch.totals.data(), here,
                                 scratch.nan.data());
          }
          std::uint32_t* const on = scratch.on.data() + (n - from) * row;
          for (index_t k = 0; k < row; ++k) on[k] += static_cast<std::uint32_t>(scratch.totals[size(k)]);
          for (index_t c = 0; c < units; ++c) {
            into.nan[size(part.first + c)] += static_cast<std::int64_t>(scratch.nan[size(c)]);
          }
        }
        if (this->counts_positions_) take_positions(part, o, some, wide, scratch, into);
      }
      for (index_t n = from; n < to; ++n) {
        const std::uint32_t* const on = scratch.on.data() + (n - from) * row;
        for (index_t k = 0; k < states_; ++k) {
          for (index_t c = 0; c < units; ++c) {
            this->settle_state(std::int64_t{on[k * wide + c]}, k, part.first + c, labels ? labels + n : nullptr, into);
          }
        }
      }
    }
  }

  /// A sample's units side by side.
  const U* map(const Range& part, index_t n, Scratch& scratch) const {
    const U* const x = this->batch_.data + this->batch_.samples[size(n)] + part.first * this->batch_.unit_stride;
    if (!gathers_) return x;
    U* to = scratch.map.data();
    for (const index_t row : rows_) {
      for (index_t c = 0; c < part.last - part.first; ++c) to[c] = x[row + c * this->batch_.unit_stride];
      to += this->width_;
    }
    return scratch.map.data();
  }

  void take_positions(const Range& part, index_t o, index_t some, index_t wide, const Scratch& scratch,
                      SwitchingCounts& into) const {
    for (index_t k = 0; k < states_; ++k) {
      for (index_t c = 0; c < part.last - part.first; ++c) {
        std::int64_t* const to =
            into.position.data() + (k * this->batch_.units + part.first + c) * windows_->count() + o;
        const U* const from = scratch.counters.data() + k * wide + c;
        for (index_t r = 0; r < some; ++r) to[r] += static_cast<std::int64_t>(from[r * states_ * wide]);
      }
    }
  }
  index_t states() const override { return states_; }

  bool gathers_;
  index_t states_;
  std::vector<index_t> rows_;  // offsets of positions
  std::optional<Windows> windows_;
  index_t together_ = 1;
  std::vector<Scratch> scratch_;
};

}  // namespace

template <class T>
std::unique_ptr<Counting> by_windows(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                     int threads) {
  return std::make_unique<Pooled<T>>(a, options, positions, threads);
}

template std::unique_ptr<Counting> by_windows(const ActivationsView<const double>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_windows(const ActivationsView<const float>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_windows(const ActivationsView<const bf16>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> by_windows(const ActivationsView<const f16>&, const SwitchingOptions&, bool, int);

}  // namespace netassay::complexity
