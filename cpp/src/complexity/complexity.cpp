#include "netassay/complexity.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

#include "complexity/count.hpp"

namespace netassay {
namespace {

/// Steps of a window at most: no place of one can then be beyond 64 bits.
constexpr index_t kFarthest = index_t{1} << 31;
/// Bytes that are counted without asking for signals: a tenth of a second or less.
constexpr double kQuickBytes = 0x1p28;

double entropy(std::span<const std::int64_t> states, std::int64_t rest, std::int64_t total) {
  const auto term = [total](std::int64_t count) {
    if (count == 0 || count == total) return 0.0;
    const double p = static_cast<double>(count) / static_cast<double>(total);
    return -p * std::log2(p);
  };
  double bits = term(rest);
  for (const std::int64_t count : states) bits += term(count);
  return bits;
}

/// Of every unit, from counts (K - 1, units); K may be 1.
std::vector<double> entropies(const std::vector<std::int64_t>& counts, std::size_t units, std::int64_t total) {
  std::vector<double> bits(units);
  const std::size_t states = units == 0 ? 0 : counts.size() / units;
  std::vector<std::int64_t> of(states);
  for (std::size_t c = 0; c < bits.size(); ++c) {
    std::int64_t rest = total;
    for (std::size_t k = 0; k < states; ++k) rest -= of[k] = counts[k * bits.size() + c];
    bits[c] = entropy(of, rest, total);
  }
  return bits;
}

void check(const PoolWindow& w) {
  const std::size_t axes = w.kernel.size();
  NETASSAY_REQUIRE(axes >= 1 && w.stride.size() == axes && w.padding.size() == axes && w.dilation.size() == axes,
                   ValueError, "Switching: got a window of ", axes, ", ", w.stride.size(), ", ", w.padding.size(),
                   " and ", w.dilation.size(), " axes (kernel, stride, padding, dilation), expected the same");
  double places = 1;  // which an integer may not hold
  for (std::size_t a = 0; a < axes; ++a) {
    NETASSAY_REQUIRE(w.kernel[a] >= 1 && w.stride[a] >= 1 && w.dilation[a] >= 1 && w.padding[a] >= 0 &&
                         w.padding[a] <= w.kernel[a] / 2 && w.stride[a] <= kFarthest && w.dilation[a] <= kFarthest,
                     ValueError, "Switching: got kernel ", w.kernel[a], ", stride ", w.stride[a], ", padding ",
                     w.padding[a], ", dilation ", w.dilation[a],
                     ", expected at least 1, at most 2^31, and a padding of at most half the kernel");
    places *= static_cast<double>(w.kernel[a]);
  }
  NETASSAY_REQUIRE(places <= 4096, ValueError, "Switching: got a window of ", places, " places, expected at most 4096");
}

/// A batch that a state can take.
struct Incoming {
  index_t samples, units;
  /// Of what is counted: numbers, or windows.
  std::vector<index_t> shape;
  index_t positions;
  /// Whether counts of positions end with it.
  bool varies;
};

/// How a batch comes into the counts; whichever it is, a call that throws leaves them as they were.
enum class Commit {
  /// Into a state without units, which is emptied again: it has nothing to lose but its memory.
  first,
  /// Into the counts themselves: once there is memory nothing can fail, as no signal is asked for.
  in_place,
  /// Into a copy, which then takes their place: the batch is long enough that signals are asked for on the way.
  by_copy,
};

Commit commit_of(const SwitchingCounts& counts, const Execution& how, double bytes) {
  if (counts.units == 0) return Commit::first;
  return !how.poll || bytes <= kQuickBytes ? Commit::in_place : Commit::by_copy;
}

/// Throws where `state` cannot take a batch of these sizes.
Incoming checked(const Switching& state, index_t samples, index_t units, const std::vector<index_t>& shape,
                 double memory, const double* means) {
  constexpr const char* kName = "Switching.update";
  const SwitchingOptions& options = state.options();
  const SwitchingCounts& counts = state.counts();
  NETASSAY_REQUIRE(samples > 0 && units > 0 && complexity::product(shape) > 0, ShapeError, kName, ": got ", samples,
                   " samples of ", units, " units and ", complexity::product(shape),
                   " positions, expected at least one of each");
  NETASSAY_REQUIRE(counts.units == 0 || units == counts.units, ShapeError, kName, ": got ", units, " units, expected ",
                   counts.units);
  NETASSAY_REQUIRE(means == nullptr || options.sums, ValueError, kName,
                   ": got means of samples to make without sums, expected sums");
  const std::vector<index_t> kept = options.window ? options.window->outputs(shape) : shape;
  const index_t positions = complexity::product(kept), all = counts.samples + samples;
  const double most = static_cast<double>(all) * static_cast<double>(positions) * static_cast<double>(positions);
  NETASSAY_REQUIRE(most < 0x1p62, LimitExceeded, kName, ": got ", samples, " samples of ", positions,
                   " positions, whose counts would pass 64 bits");
  const bool varies = !state.keeps_positions(shape);
  const double need = Switching::footprint(options, units, varies ? 1 : positions, all);
  NETASSAY_REQUIRE(!(counts.units == 0 || options.patterns) || need <= memory, LimitExceeded, kName, ": got ", units,
                   " units at ", positions, " positions, which need ", need / 1e9, " GB, expected at most ",
                   memory / 1e9, " GB (memory)");
  return {samples, units, kept, positions, varies};
}

void check(const std::int64_t* labels, index_t samples, index_t classes) {
  NETASSAY_REQUIRE((classes > 0) == (labels != nullptr), ValueError, "Switching.update: got ",
                   labels ? "labels" : "no labels", " with ", classes, " classes");
  for (index_t n = 0; labels != nullptr && n < samples; ++n) {
    NETASSAY_REQUIRE(labels[n] >= 0 && labels[n] < classes, ValueError, "Switching.update: got label ", labels[n],
                     ", expected 0 to ", classes - 1);
  }
}

void reserve_patterns(SwitchingCounts& counts, const Incoming& batch) {
  const auto words = static_cast<std::size_t>((counts.samples + batch.samples) * counts.words());
  if (words <= counts.patterns.capacity()) return;
  counts.patterns.reserve(std::max(words, 2 * counts.patterns.capacity()));
}

/// Counts the batch into arrays that are allocated.
void take(const Incoming& batch, complexity::Counting& counting, SwitchingCounts& into, const SwitchingOptions& options,
          const std::int64_t* labels, double* means, const Execution& how) {
  std::uint64_t* patterns = nullptr;
  if (options.patterns && !batch.varies) {
    const std::size_t held = into.patterns.size();
    into.patterns.resize(held + static_cast<std::size_t>(batch.samples * ((batch.units * batch.positions + 63) / 64)));
    patterns = into.patterns.data() + held;
  }
  counting.run(into, labels, patterns, means, how);
  into.samples += batch.samples;
  into.observations += batch.samples * batch.positions;
  for (index_t n = 0; labels != nullptr && n < batch.samples; ++n) {
    into.class_observations[static_cast<std::size_t>(labels[n])] += batch.positions;
  }
}

}  // namespace

index_t PoolWindow::places() const { return complexity::product(kernel); }

std::vector<index_t> PoolWindow::outputs(const std::vector<index_t>& shape) const {
  NETASSAY_REQUIRE(shape.size() == kernel.size(), ShapeError, "Switching.update: got ", shape.size(),
                   " position axes, expected ", kernel.size(), ", those of the window");
  std::vector<index_t> out;
  for (std::size_t a = 0; a < shape.size(); ++a) {
    const index_t room = shape[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1;
    NETASSAY_REQUIRE(room >= 0, ShapeError, "Switching.update: got an extent of ", shape[a],
                     ", expected one that a window of ", kernel[a], " fits into");
    index_t steps = (room + (ceil_mode ? stride[a] - 1 : 0)) / stride[a] + 1;
    if (ceil_mode && (steps - 1) * stride[a] >= shape[a] + padding[a]) --steps;  // it would begin outside
    out.push_back(steps);
  }
  return out;
}

index_t SwitchingOptions::states() const {
  return window ? window->places() : static_cast<index_t>(thresholds.size()) + 1;
}

index_t SwitchingCounts::positions() const { return complexity::product(shape); }
index_t SwitchingCounts::words() const { return (units * positions() + 63) / 64; }

Switching::Switching(Options options) : options_(std::move(options)) {
  if (options_.window) {
    check(*options_.window);
    options_.thresholds.clear();
  } else {
    NETASSAY_REQUIRE(!options_.thresholds.empty(), ValueError, "Switching: got no threshold, expected at least one");
  }
  for (std::size_t k = 0; k < options_.thresholds.size(); ++k) {
    NETASSAY_REQUIRE(
        std::isfinite(options_.thresholds[k]) && (k == 0 || options_.thresholds[k - 1] < options_.thresholds[k]),
        ValueError, "Switching: got threshold ", options_.thresholds[k], ", expected finite numbers that ascend");
  }
  NETASSAY_REQUIRE(options_.classes >= 0, ValueError, "Switching: got ", options_.classes,
                   " classes, expected at least 1");
  NETASSAY_REQUIRE(!options_.sums || !options_.window, ValueError,
                   "Switching: got sums with a window, expected thresholds");
  NETASSAY_REQUIRE(!options_.patterns || options_.states() == 2, ValueError, "Switching: got patterns of ",
                   options_.states(), " states, expected 2");
}

template <class T>
void Switching::update(const ActivationsView<const T>& a, const std::int64_t* labels, const Execution& how,
                       double memory, double* means) {
  const std::vector<index_t> shape = complexity::extents(a.positions);
  const Incoming batch =
      checked(*this, complexity::product(complexity::extents(a.samples)), a.units.extent, shape, memory, means);
  check(labels, batch.samples, options_.classes);
  const int threads = thread_count(how.threads);
  const auto counting = complexity::counting(a, options_, options_.positions && !batch.varies, threads);
  const auto numbers = static_cast<double>(batch.samples) * static_cast<double>(batch.units) *
                       static_cast<double>(complexity::product(shape));
  switch (commit_of(counts_, how, numbers * sizeof(T))) {
    case Commit::first:
      try {
        counts_.units = batch.units;
        if (!batch.varies) counts_.shape = batch.shape;
        complexity::allocate(counts_, options_, options_.positions);
        take(batch, *counting, counts_, options_, labels, means, {threads, how.poll});
      } catch (...) {
        clear();
        counts_.shape_varies = batch.varies;
        throw;
      }
      return;
    case Commit::in_place:
      if (options_.patterns && !batch.varies) reserve_patterns(counts_, batch);
      if (batch.varies) forget_positions();
      take(batch, *counting, counts_, options_, labels, means, {threads, {}});
      return;
    case Commit::by_copy:
      SwitchingCounts next = counts_;
      if (batch.varies) complexity::forget_positions(next);
      take(batch, *counting, next, options_, labels, means, {threads, how.poll});
      counts_ = std::move(next);
  }
}

template void Switching::update(const ActivationsView<const double>&, const std::int64_t*, const Execution&, double,
                                double*);
template void Switching::update(const ActivationsView<const float>&, const std::int64_t*, const Execution&, double,
                                double*);
template void Switching::update(const ActivationsView<const bf16>&, const std::int64_t*, const Execution&, double,
                                double*);
template void Switching::update(const ActivationsView<const f16>&, const std::int64_t*, const Execution&, double,
                                double*);

void Switching::merge(const Switching& other) {
  const Options &mine = options_, &theirs = other.options_;
  NETASSAY_REQUIRE(mine.thresholds == theirs.thresholds && mine.window == theirs.window, ValueError,
                   "Switching.merge: got another rule, expected the same thresholds or window in both states");
  NETASSAY_REQUIRE(mine.positions == theirs.positions && mine.classes == theirs.classes &&
                       mine.patterns == theirs.patterns && mine.sums == theirs.sums,
                   ValueError, "Switching.merge: got positions=", theirs.positions, ", classes=", theirs.classes,
                   ", patterns=", theirs.patterns, ", sums=", theirs.sums, ", expected ", mine.positions, ", ",
                   mine.classes, ", ", mine.patterns, ", ", mine.sums);
  const SwitchingCounts& from = other.counts_;
  if (from.units == 0) return;
  if (counts_.units == 0) {
    const bool varies = counts_.shape_varies;
    counts_ = SwitchingCounts(from);
    if (varies) forget_positions();
    return;
  }
  NETASSAY_REQUIRE(from.units == counts_.units, ShapeError, "Switching.merge: got ", from.units, " units, expected ",
                   counts_.units);
  NETASSAY_REQUIRE(counts_.observations < std::numeric_limits<std::int64_t>::max() - from.observations, LimitExceeded,
                   "Switching.merge: got counts that would pass 64 bits");
  for (std::size_t k = 0; k < from.square.size(); ++k) {
    NETASSAY_REQUIRE(counts_.square[k] <= std::numeric_limits<std::int64_t>::max() - from.square[k], LimitExceeded,
                     "Switching.merge: got sums of squares that would pass 64 bits");
  }
  if (&other == this) return merge(Switching(other));
  const bool varies = counts_.shape_varies || from.shape_varies || counts_.shape != from.shape;
  if (!varies) counts_.patterns.reserve(counts_.patterns.size() + from.patterns.size());
  if (varies) complexity::forget_positions(counts_);
  if (!varies) counts_.patterns.insert(counts_.patterns.end(), from.patterns.begin(), from.patterns.end());
  counts_.samples += from.samples;
  counts_.observations += from.observations;
  complexity::add(counts_, from);
  for (std::size_t c = 0; c < from.finite.size(); ++c) {
    complexity::join(counts_, static_cast<index_t>(c), {from.finite[c], from.mean[c], from.scatter[c]});
  }
}

void Switching::clear() {
  counts_.samples = 0;
  counts_.observations = 0;
  counts_.units = 0;
  counts_.shape.clear();
  counts_.shape_varies = false;
  for (auto* numbers : {&counts_.state, &counts_.zero, &counts_.nan, &counts_.square, &counts_.position,
                        &counts_.class_state, &counts_.class_observations, &counts_.finite}) {
    numbers->clear();
  }
  counts_.mean.clear();
  counts_.scatter.clear();
  counts_.patterns.clear();
}

bool Switching::keeps_positions(const std::vector<index_t>& shape) const {
  if (counts_.shape_varies || counts_.units == 0) return !counts_.shape_varies;
  return (options_.window ? options_.window->outputs(shape) : shape) == counts_.shape;
}

void Switching::forget_positions() { complexity::forget_positions(counts_); }

std::vector<double> Switching::channel_bits() const {
  NETASSAY_REQUIRE(counts_.samples > 0, TooFewRows, "Switching.channel_bits: got no samples, expected at least one");
  return entropies(counts_.state, static_cast<std::size_t>(counts_.units), counts_.observations);
}

std::vector<double> Switching::position_bits() const {
  NETASSAY_REQUIRE(counts_.samples > 0, TooFewRows, "Switching.position_bits: got no samples, expected at least one");
  const bool kept = options_.positions && !counts_.shape.empty();
  return entropies(counts_.position, kept ? static_cast<std::size_t>(counts_.units * counts_.positions()) : 0,
                   counts_.samples);
}

double Switching::bytes() const {
  const SwitchingCounts& c = counts_;
  std::size_t numbers = c.patterns.capacity() + c.mean.capacity() + c.scatter.capacity();
  for (const auto* held :
       {&c.state, &c.zero, &c.nan, &c.square, &c.position, &c.class_state, &c.class_observations, &c.finite}) {
    numbers += held->capacity();
  }
  return 8.0 * static_cast<double>(numbers);
}

double Switching::footprint(const Options& options, index_t units, index_t positions, index_t samples) {
  const auto c = static_cast<double>(units), p = static_cast<double>(positions);
  const double states = static_cast<double>(options.states() - 1) * c;
  double numbers = 2 * states + 2 * c + static_cast<double>(options.classes) * (states + 1);
  if (options.positions) numbers += states * p;
  if (options.sums) numbers += 3 * c;
  if (options.patterns) numbers += static_cast<double>(samples) * std::ceil(c * p / 64);
  return 8 * numbers;
}

}  // namespace netassay
