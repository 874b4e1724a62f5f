#include "complexity/count.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "complexity/kernels.hpp"
#include "complexity/walk.hpp"
#include "complexity/windows.hpp"

namespace netassay::complexity {
namespace {

/// Counters that a task changes all the time.
constexpr index_t kNearBytes = index_t{1} << 15;
/// Samples whose counts wait until all of their positions are counted.
constexpr index_t kSamples = 1024;
/// Units of rows that are counted side by side: kTogether rows of them, and as many that are read ahead, stay near.
constexpr index_t kWidth = 512;
/// Numbers of a unit that are summed about one pivot, in whole samples: enough that counters of positions are seldom
/// added to the state.
constexpr index_t kSummed = index_t{1} << 18;
/// Numbers that are not worth a second thread.
constexpr index_t kFew = index_t{1} << 16;

constexpr index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }
std::size_t size(index_t n) { return static_cast<std::size_t>(n); }

/// Units first ... last - 1 of samples from ... to - 1.
struct Range {
  index_t first, last, from, to;
};

/// What the ways of counting share: parts for the threads, and what becomes of counts above thresholds.
template <class T>
class Shared : public Counting {
 public:
  using U = Bits<T>;

  void run(SwitchingCounts& into, const std::int64_t* labels, std::uint64_t* patterns, double* means,
           const Execution& given) final {
    means_ = means;
    const Execution how{static_cast<int>(threads_), given.poll};  // one scratch for each
    parallel_for(tiles_ * splits_, how, [&](index_t task, int worker) {
      const index_t tile = task % tiles_, split = task / tiles_;
      const Range part{tile * width_, std::min(units_, (tile + 1) * width_), start(split), start(split + 1)};
      count(part, split == 0 ? into : others_[size(split - 1)], labels, worker);
    });
    for (const SwitchingCounts& other : others_) add(into, other);
    // in the order of samples, whatever the threads
    for (std::size_t k = 0; k < sums_.size(); ++k) join(into, static_cast<index_t>(k) % units_, sums_[k]);
    if (patterns != nullptr) {
      parallel_for(samples(), how, [&](index_t n, int worker) { pack(n, patterns, worker); });
    }
  }

 protected:
  Shared(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions)
      : data_(reinterpret_cast<const U*>(a.data)),
        samples_(offsets(a.samples)),
        units_(a.units.extent),
        unit_stride_(a.units.stride),
        segments_(a.positions),
        positions_(product(extents(a.positions))),
        counts_positions_(positions && !a.positions.empty()),
        thresholds_(static_cast<index_t>(options.thresholds.size())),
        classes_(options.classes),
        kernel_(kernel<T>(options.sums)),
        group_(options.sums ? std::clamp<index_t>(kSummed / positions_, 1, kSamples) : kSamples) {
    if (options.sums) sums_.resize(size(ceil_div(samples(), group_) * units_));
    for (const double threshold : options.thresholds) above_.push_back(above<T>(threshold));
  }

  index_t samples() const { return static_cast<index_t>(samples_.size()); }
  bool summed() const { return !sums_.empty(); }
  /// The first sample of a split; of sums between groups.
  index_t start(index_t split) const {
    if (!summed()) return split * samples() / splits_;
    return std::min(samples(), split * ceil_div(samples(), group_) / splits_ * group_);
  }

  /// Units of a task at most, and how many tasks there will be: samples are split where units are too few.
  void divide(const SwitchingOptions& options, const std::vector<index_t>& shape, index_t width, index_t unit,
              int threads, bool gathers) {
    if (samples() * units_ * positions_ < kFew) threads = 1;
    const index_t even = ceil_div(ceil_div(units_, 2 * index_t{threads}), unit) * unit;
    width_ = std::min(width, threads == 1 ? width : even);
    tiles_ = ceil_div(units_, width_);
    const index_t most = summed() ? ceil_div(samples(), group_) : samples();
    splits_ = tiles_ >= threads ? 1 : std::min<index_t>(most, ceil_div(2 * index_t{threads}, tiles_));
    threads_ = std::min<index_t>(threads, tiles_ * splits_);
    for (index_t k = 1; k < splits_; ++k) {
      SwitchingCounts& other = others_.emplace_back();
      other.units = units_;
      other.shape = shape;
      allocate(other, options, counts_positions_);
    }
    lines_.resize(size(threads_));
    if (!gathers && !options.patterns) return;
    for (auto& line : lines_) line.resize(size(std::max(kRun, kTogether * width_)));
  }

  virtual void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) = 0;

  /// Sums of `rows` samples, one after the other, (rows, units of a task), about pivots (units).
  struct Summed {
    std::vector<U> pivot;
    std::vector<double> sum, square;
    std::vector<std::uint32_t> left_out;

    void allocate(index_t rows, index_t units) {
      pivot.resize(size(units));
      sum.resize(size(rows * units));
      square.resize(size(rows * units));
      left_out.resize(size(rows * units));
    }
    void clear() {
      std::fill(sum.begin(), sum.end(), 0.0);
      std::fill(square.begin(), square.end(), 0.0);
      std::fill(left_out.begin(), left_out.end(), 0);
    }
    Sums<U> at(index_t offset) {
      return {pivot.data(), sum.data() + offset, square.data() + offset, left_out.data() + offset};
    }
  };

  /// Before a group of samples is summed: pivots are the first finite numbers, so that no outlier and no mean, however
  /// large, makes the sum of squares more than (numbers of the group) times the scatter.
  void start_sums(const Range& part, Summed& sums) const {
    sums.clear();
    for (index_t c = part.first; c < part.last; ++c) sums.pivot[size(c - part.first)] = first_finite(c, part);
  }
  U first_finite(index_t unit, const Range& part) const {
    for (index_t n = part.from; n < part.to; ++n) {
      for (const Segment& s : segments_.all) {
        const U* const x = data_ + samples_[size(n)] + unit * unit_stride_ + s.offset;
        for (index_t j = 0; j < s.length; ++j) {
          const auto magnitude = static_cast<U>(x[j * segments_.stride] << 1);
          if (magnitude < static_cast<U>(kInfinity<T> << 1)) return x[j * segments_.stride];
        }
      }
    }
    return 0;
  }
  /// After it: `rows` samples with `each` numbers, or all of a group in one row, become a part of every unit.
  void finish_sums(const Range& part, Summed& sums, index_t rows, index_t each) {
    const index_t units = part.last - part.first;
    for (index_t n = part.from; means_ != nullptr && n < part.to; ++n) {
      double* const means = means_ + n * units_ + part.first;
      for (index_t c = 0; c < units; ++c) means[c] = mean(n, part, c, sums);
    }
    double *const sum = sums.sum.data(), *const square = sums.square.data();
    std::uint32_t* const left_out = sums.left_out.data();
    for (index_t k = 1; k < rows; ++k) {
      for (index_t c = 0; c < units; ++c) {
        sum[c] += sum[k * units + c];
        square[c] += square[k * units + c];
        left_out[c] += left_out[k * units + c];
      }
    }
    Part* const to = sums_.data() + part.from / group_ * units_ + part.first;
    for (index_t c = 0; c < units; ++c) {
      const std::int64_t finite = rows * each - std::int64_t{left_out[c]};
      if (finite == 0) continue;
      const double mean = sum[c] / static_cast<double>(finite), scatter = square[c] - sum[c] * mean;
      to[c] = {finite, value(sums.pivot[size(c)]) + mean, scatter < 0 ? 0.0 : scatter};
    }
  }
  /// Over the positions of a sample; NaN where one is not finite.
  double mean(index_t n, const Range& part, index_t c, const Summed& sums) const {
    const double none = std::numeric_limits<double>::quiet_NaN();
    if (positions_ == 1) {
      const double x = value(data_[samples_[size(n)] + (part.first + c) * unit_stride_]);
      return std::isfinite(x) ? x : none;
    }
    const std::size_t k = size((n - part.from) * (part.last - part.first) + c);
    if (sums.left_out[k] > 0) return none;
    return value(sums.pivot[size(c)]) + sums.sum[k] / static_cast<double>(positions_);
  }
  static double value(U bits) { return static_cast<double>(widen(std::bit_cast<T>(bits))); }

  /// A sample's `on` counts above each threshold, (thresholds, units), become counts of states.
  void settle(const std::uint32_t* on, const Range& part, const std::int64_t* label, SwitchingCounts& into) const {
    const index_t units = part.last - part.first;
    for (index_t k = 0; k < thresholds_; ++k, on += units) {
      const std::size_t at = size(k * units_ + part.first);
      std::int64_t *const state = into.state.data() + at, *const square = into.square.data() + at;
      std::int64_t* const of_class =
          label == nullptr ? nullptr : into.class_state.data() + size(*label * thresholds_ * units_) + at;
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
    const std::size_t at = size(k * units_ + unit);
    into.state[at] += count;
    into.square[at] += count * count;
    if (label != nullptr) into.class_state[size(*label * states()) * size(units_) + at] += count;
  }
  virtual index_t states() const { return thresholds_; }

  /// One sample's bits.
  void pack(index_t n, std::uint64_t* patterns, int worker) {
    const index_t bits = units_ * positions_, words = ceil_div(bits, 64);
    std::uint64_t* const to = patterns + n * words;
    const U* const x = data_ + samples_[size(n)];
    U* const line = lines_[size(worker)].data();
    const auto put = [&](const U* from, index_t stride, index_t at, index_t length) {
      unsigned char packed[kRun / 8 + 8] = {};
      kernel_.signs(gathered(from, stride, length, line), length, above_[0], packed);
      for (index_t k = 0; k < length; k += 64, at += 64) {
        std::uint64_t word;
        std::memcpy(&word, packed + k / 8, sizeof word);
        if (length - k < 64) word &= (std::uint64_t{1} << (length - k)) - 1;
        to[at / 64] |= word << (at % 64);
        if (at % 64 != 0 && (word >> (64 - at % 64)) != 0) to[at / 64 + 1] |= word >> (64 - at % 64);
      }
    };
    if (positions_ == 1) {
      for (index_t c = 0; c < units_; c += kRun) {
        put(x + c * unit_stride_, unit_stride_, c, std::min(kRun, units_ - c));
      }
      return;
    }
    for (index_t c = 0; c < units_; ++c) {
      for (const Segment& s : segments_.all) {
        put(x + c * unit_stride_ + s.offset, segments_.stride, c * positions_ + s.position, s.length);
      }
    }
  }

  static const U* gathered(const U* from, index_t stride, index_t length, U* line) {
    if (stride == 1) return from;
    for (index_t j = 0; j < length; ++j) line[j] = from[j * stride];
    return line;
  }

  const U* data_;
  std::vector<index_t> samples_;
  index_t units_, unit_stride_;
  Segments segments_;
  index_t positions_;
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

/// Positions side by side in memory: runs of one unit.
template <class T>
class Runs final : public Shared<T> {
  using Base = Shared<T>;
  using U = Bits<T>;

 public:
  Runs(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions, int threads)
      : Base(a, options, positions) {
    const index_t bytes = this->positions_ * this->thresholds_ * index_t{sizeof(U)};
    this->divide(options, extents(a.positions), std::clamp<index_t>(kNearBytes / bytes, 1, 1024), 1, threads,
                 this->segments_.stride != 1);
    // tiles of segments whose counters stay near
    const index_t most = std::max(kRun, kNearBytes / (index_t{sizeof(U)} * this->thresholds_ * this->width_));
    for (std::size_t s = 0; s < this->segments_.all.size();) {
      tiles_.push_back(s);
      index_t length = 0;
      while (s < this->segments_.all.size() && (length == 0 || length + this->segments_.all[s].length <= most)) {
        length += this->segments_.all[s++].length;
      }
      longest_ = std::max(longest_, length);
    }
    tiles_.push_back(this->segments_.all.size());
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
    typename Base::Summed sums;
  };

  void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) override {
    for (index_t from = part.from; from < part.to; from += this->group_) {
      const Range some{part.first, part.last, from, std::min(part.to, from + this->group_)};
      Scratch& scratch = scratch_[size(worker)];
      std::fill(scratch.on.begin(), scratch.on.end(), 0);
      if (this->summed()) this->start_sums(some, scratch.sums);
      for (std::size_t t = 0; t + 1 < tiles_.size(); ++t) count_tile(some, tiles_[t], tiles_[t + 1], into, worker);
      const index_t units = part.last - part.first;
      for (index_t n = some.from; n < some.to; ++n) {
        const std::uint32_t* const on = scratch.on.data() + (n - from) * this->thresholds_ * units;
        this->settle(on, part, labels ? labels + n : nullptr, into);
      }
      if (this->summed()) this->finish_sums(some, scratch.sums, some.to - from, this->positions_);
    }
  }

  void count_tile(const Range& part, std::size_t first, std::size_t last, SwitchingCounts& into, int worker) {
    Scratch& scratch = scratch_[size(worker)];
    U* const line = this->lines_[size(worker)].data();
    const Segment* const segments = this->segments_.all.data();
    const index_t start = segments[first].position;
    const index_t length = segments[last - 1].position + segments[last - 1].length - start;
    const index_t units = part.last - part.first, thresholds = this->thresholds_;
    std::fill(scratch.counters.begin(), scratch.counters.end(), U{0});
    const auto runs = this->kernel_.runs, again = kernel<T>(false).runs;  // sums are made once
    const bool in_place = this->segments_.stride == 1;
    std::int64_t *const zero = into.zero.data() + part.first, *const nan = into.nan.data() + part.first;
    std::int64_t* const aside = scratch.aside.data();  // what the first threshold has counted
    for (index_t n = part.from; n < part.to; ++n) {
      std::uint32_t* const on = scratch.on.data() + (n - part.from) * thresholds * units;
      const U* const x = this->data_ + this->samples_[size(n)] + part.first * this->unit_stride_;
      // all units at a time where nothing must be gathered
      const index_t together = in_place ? units : 1;
      for (index_t c = 0; c < units; c += together) {
        for (std::size_t s = first; s < last; ++s) {
          const Segment& segment = segments[s];
          const U* const from =
              this->gathered(x + c * this->unit_stride_ + segment.offset, this->segments_.stride, segment.length, line);
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
            (k == 0 ? runs : again)(from, together, this->unit_stride_, segment.length, this->above_[size(k)], tallies,
                                    counters, length, sums);
          }
        }
      }
    }
    if (!this->counts_positions_) return;
    for (index_t k = 0; k < thresholds; ++k) {
      for (index_t c = 0; c < units; ++c) {
        std::int64_t* const to =
            into.position.data() + ((k * this->units_ + part.first + c) * this->positions_ + start);
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

/// Units side by side in memory (or no positions): columns of rows.
template <class T>
class Columns final : public Shared<T> {
  using Base = Shared<T>;
  using U = Bits<T>;
  using Summed = typename Base::Summed;

 public:
  Columns(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions, int threads)
      : Base(a, options, positions), rows_(offsets(a.positions)) {
    this->divide(options, extents(a.positions), this->positions_ == 1 ? kWidth : 256, 64, threads,
                 this->unit_stride_ != 1);
    const index_t row = this->width_ * this->thresholds_ * index_t{sizeof(U)};
    together_ = std::min(this->positions_, kMostRows);
    if (this->counts_positions_) together_ = std::min(together_, std::max(kTogether, 2 * kNearBytes / row));
    scratch_.resize(size(this->threads_));
    const index_t samples = std::min(this->group_, this->samples());
    for (Scratch& s : scratch_) {
      s.totals.resize(size((this->thresholds_ + 4) * this->width_));
      if (this->positions_ > 1) s.on.resize(size(this->thresholds_ * this->width_ * samples));
      if (this->counts_positions_) s.counters.resize(size(this->thresholds_ * together_ * this->width_));
      if (this->classes_ > 0) s.order.resize(size(this->samples()));
      if (options.sums) s.sums.allocate(this->positions_ == 1 ? 1 : samples, this->width_);
    }
  }

 private:
  struct Scratch {
    std::vector<U> totals;          // (thresholds + 4, units): on, zero, nan, and what is counted twice
    std::vector<std::uint32_t> on;  // (samples, thresholds, units)
    std::vector<U> counters;        // (thresholds, positions of a tile, units)
    std::vector<index_t> order;     // samples by class
    typename Base::Summed sums;
  };

  void count(const Range& part, SwitchingCounts& into, const std::int64_t* labels, int worker) override {
    if (this->positions_ > 1) return count_maps(part, into, labels, worker);
    if (!this->summed()) return count_rows(part, into, labels, worker);
    Summed& sums = scratch_[size(worker)].sums;
    for (index_t from = part.from; from < part.to; from += this->group_) {
      const Range some{part.first, part.last, from, std::min(part.to, from + this->group_)};
      this->start_sums(some, sums);
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
        const U* const from = this->data_ + offset(r + k) + part.first * this->unit_stride_;
        x[k] = this->gathered(from, this->unit_stride_, units, line + k * units);
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
        return this->samples_[size(labels != nullptr ? order[from + r] : from + r)];
      };
      const Sums<U> sums = this->summed() ? scratch.sums.at(0) : Sums<U>{};
      add_rows(part, to - from, offset, scratch, sums, nullptr, this->lines_[size(worker)].data());
      take_special(part, scratch, into);
      for (index_t k = 0; k < this->thresholds_; ++k) {
        const U* const on = scratch.totals.data() + k * units;
        for (index_t c = 0; c < units; ++c) {
          const auto more = k + 1 < this->thresholds_ ? static_cast<std::int64_t>(on[units + c]) : 0;
          const std::int64_t count = static_cast<std::int64_t>(on[c]) - more;
          const std::size_t at = size(k * this->units_ + part.first + c);
          into.state[at] += count;
          into.square[at] += count;  // of ones
          if (this->counts_positions_) into.position[at] += count;
          if (labels == nullptr) continue;
          into.class_state[size(labels[order[from]] * this->thresholds_ * this->units_) + at] += count;
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
      if (this->summed()) this->start_sums(some, scratch.sums);
      for (index_t s = 0; s < this->positions_; s += together_) {
        const index_t rows = std::min(together_, this->positions_ - s);
        std::fill(scratch.counters.begin(), scratch.counters.end(), U{0});
        for (index_t n = from; n < to; ++n) {
          std::fill(scratch.totals.begin(), scratch.totals.end(), U{0});
          const index_t sample = this->samples_[size(n)];
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
      if (this->summed()) this->finish_sums(some, scratch.sums, to - from, this->positions_);
    }
  }

  void take_positions(const Range& part, index_t s, index_t rows, const Scratch& scratch, SwitchingCounts& into) const {
    const index_t units = part.last - part.first;
    for (index_t k = 0; k < this->thresholds_; ++k) {
      const U* const own = scratch.counters.data() + k * together_ * units;
      const U* const more = own + together_ * units;
      for (index_t c = 0; c < units; ++c) {
        std::int64_t* const to = into.position.data() + ((k * this->units_ + part.first + c) * this->positions_ + s);
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

/// Which place of a window holds the largest number: units side by side, or brought there.
template <class T>
class Pooled final : public Shared<T> {
  using Base = Shared<T>;
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
    const U* const x = this->data_ + this->samples_[size(n)] + part.first * this->unit_stride_;
    if (!gathers_) return x;
    U* to = scratch.map.data();
    for (const index_t row : rows_) {
      for (index_t c = 0; c < part.last - part.first; ++c) to[c] = x[row + c * this->unit_stride_];
      to += this->width_;
    }
    return scratch.map.data();
  }

  void take_positions(const Range& part, index_t o, index_t some, index_t wide, const Scratch& scratch,
                      SwitchingCounts& into) const {
    for (index_t k = 0; k < states_; ++k) {
      for (index_t c = 0; c < part.last - part.first; ++c) {
        std::int64_t* const to = into.position.data() + (k * this->units_ + part.first + c) * windows_->count() + o;
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

template <class Numbers>
void add_each(Numbers& to, const Numbers& from) {
  for (std::size_t k = 0; k < from.size(); ++k) to[k] += from[k];
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
  if (options.window) return std::make_unique<Pooled<T>>(a, options, positions, threads);
  if (product(extents(a.positions)) == 1 || (a.units.stride == 1 && a.units.extent > 1)) {
    return std::make_unique<Columns<T>>(a, options, positions, threads);
  }
  return std::make_unique<Runs<T>>(a, options, positions, threads);
}

template std::unique_ptr<Counting> counting(const ActivationsView<const double>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> counting(const ActivationsView<const float>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> counting(const ActivationsView<const bf16>&, const SwitchingOptions&, bool, int);
template std::unique_ptr<Counting> counting(const ActivationsView<const f16>&, const SwitchingOptions&, bool, int);

}  // namespace netassay::complexity
