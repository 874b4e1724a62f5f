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
  constexpr const char* kName = "Switching.update";
  const std::vector<index_t> shape = complexity::extents(a.positions);
  const index_t samples = complexity::product(complexity::extents(a.samples)), units = a.units.extent;
  NETASSAY_REQUIRE(samples > 0 && units > 0 && complexity::product(shape) > 0, ShapeError, kName, ": got ", samples,
                   " samples of ", units, " units and ", complexity::product(shape),
                   " positions, expected at least one of each");
  NETASSAY_REQUIRE(counts_.units == 0 || units == counts_.units, ShapeError, kName, ": got ", units,
                   " units, expected ", counts_.units);
  NETASSAY_REQUIRE((options_.classes > 0) == (labels != nullptr), ValueError, kName, ": got ",
                   labels ? "labels" : "no labels", " with ", options_.classes, " classes");
  NETASSAY_REQUIRE(means == nullptr || options_.sums, ValueError, kName,
                   ": got means of samples to make without sums, expected sums");
  for (index_t n = 0; labels != nullptr && n < samples; ++n) {
    NETASSAY_REQUIRE(labels[n] >= 0 && labels[n] < options_.classes, ValueError, kName, ": got label ", labels[n],
                     ", expected 0 to ", options_.classes - 1);
  }
  const std::vector<index_t> kept = options_.window ? options_.window->outputs(shape) : shape;
  const index_t positions = complexity::product(kept);
  const double most =
      static_cast<double>(counts_.samples + samples) * static_cast<double>(positions) * static_cast<double>(positions);
  NETASSAY_REQUIRE(most < 0x1p62, LimitExceeded, kName, ": got ", samples, " samples of ", positions,
                   " positions, whose counts would pass 64 bits");
  const bool fresh = counts_.units == 0;
  const bool varies = !keeps_positions(shape);
  const double need = footprint(options_, units, varies ? 1 : positions, counts_.samples + samples);
  NETASSAY_REQUIRE(!(fresh || options_.patterns) || need <= memory, LimitExceeded, kName, ": got ", units, " units at ",
                   positions, " positions, which need ", need / 1e9, " GB, expected at most ", memory / 1e9,
                   " GB (memory)");

  const int threads = thread_count(how.threads);
  const bool by_position = options_.positions && !varies;
  const auto counting = complexity::counting(a, options_, by_position, threads);
  const auto take = [&](SwitchingCounts& into, const Execution& execution) {
    std::uint64_t* patterns = nullptr;
    if (options_.patterns && !varies) {
      const std::size_t held = into.patterns.size();
      into.patterns.resize(held + static_cast<std::size_t>(samples * ((units * positions + 63) / 64)));
      patterns = into.patterns.data() + held;
    }
    counting->run(into, labels, patterns, means, execution);
    into.samples += samples;
    into.observations += samples * positions;
    for (index_t n = 0; labels != nullptr && n < samples; ++n) {
      into.class_observations[static_cast<std::size_t>(labels[n])] += positions;
    }
  };
  if (fresh) {
    // a state that never was anything has nothing to lose but its memory
    try {
      counts_.units = units;
      if (!varies) counts_.shape = kept;
      complexity::allocate(counts_, options_, options_.positions);
      take(counts_, {threads, how.poll});
    } catch (...) {
      clear();
      counts_.shape_varies = varies;
      throw;
    }
    return;
  }
  const auto bytes = static_cast<double>(samples) * static_cast<double>(units) *
                     static_cast<double>(complexity::product(shape)) * static_cast<double>(sizeof(T));
  if (!how.poll || bytes <= kQuickBytes) {
    if (options_.patterns && !varies) {  // nothing may fail from here on
      const std::size_t words = static_cast<std::size_t>((counts_.samples + samples) * counts_.words());
      if (words > counts_.patterns.capacity()) {
        counts_.patterns.reserve(std::max(words, 2 * counts_.patterns.capacity()));
      }
    }
    if (varies) complexity::forget_positions(counts_);
    take(counts_, {threads, {}});
    return;
  }
  SwitchingCounts next = counts_;
  if (varies) complexity::forget_positions(next);
  take(next, {threads, how.poll});
  counts_ = std::move(next);
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
  const auto add = [](std::vector<std::int64_t>& to, const std::vector<std::int64_t>& more) {
    for (std::size_t k = 0; k < to.size(); ++k) to[k] += more[k];
  };
  counts_.samples += from.samples;
  counts_.observations += from.observations;
  add(counts_.state, from.state);
  add(counts_.zero, from.zero);
  add(counts_.nan, from.nan);
  add(counts_.square, from.square);
  add(counts_.position, from.position);
  add(counts_.class_state, from.class_state);
  add(counts_.class_observations, from.class_observations);
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

Switching Switching::from_counts(Options options, SwitchingCounts counts) {
  constexpr const char* kName = "Switching.from_counts";
  Switching out(std::move(options));
  const Options& o = out.options_;
  NETASSAY_REQUIRE(counts.samples >= 0 && counts.units >= 0 && counts.observations >= counts.samples &&
                       (counts.samples == 0) == (counts.units == 0),
                   ValueError, kName, ": got ", counts.samples, " samples, ", counts.observations, " observations and ",
                   counts.units, " units");
  for (const index_t extent : counts.shape) {
    NETASSAY_REQUIRE(extent > 0, ShapeError, kName, ": got an extent of ", extent, ", expected at least 1");
  }
  // in float64: nothing is allocated, and nothing overflows, for sizes that are not those of the arrays
  const auto units = static_cast<double>(counts.units), classes = counts.units > 0 ? double(o.classes) : 0.0;
  const double states = static_cast<double>(o.states() - 1) * units;
  double positions = 1;
  for (const index_t extent : counts.shape) positions *= static_cast<double>(extent);
  const bool by_position = o.positions && !counts.shape_varies && !counts.shape.empty();
  const auto fits = [&](const std::vector<std::int64_t>& got, double expected, const char* name) {
    NETASSAY_REQUIRE(static_cast<double>(got.size()) == expected, ShapeError, kName, ": got ", got.size(),
                     " numbers of ", name, ", expected ", expected);
    NETASSAY_REQUIRE(std::all_of(got.begin(), got.end(), [](std::int64_t n) { return n >= 0; }), ValueError, kName,
                     ": got a negative number of ", name, ", expected at least 0");
  };
  fits(counts.state, states, "states");
  fits(counts.zero, units, "zeros");
  fits(counts.nan, units, "NaNs");
  fits(counts.square, states, "squares");
  fits(counts.position, by_position ? states * positions : 0, "positions");
  fits(counts.class_state, classes * states, "classes");
  fits(counts.class_observations, classes, "class observations");
  fits(counts.finite, o.sums ? units : 0, "finite numbers");
  NETASSAY_REQUIRE(counts.mean.size() == counts.finite.size() && counts.scatter.size() == counts.finite.size(),
                   ShapeError, kName, ": got ", counts.mean.size(), " means and ", counts.scatter.size(),
                   " scatters, expected ", counts.finite.size());
  for (std::size_t c = 0; c < counts.finite.size(); ++c) {
    NETASSAY_REQUIRE(counts.finite[c] <= counts.observations - counts.nan[c], ValueError, kName, ": got ",
                     counts.finite[c], " finite numbers of ", counts.observations, " with ", counts.nan[c], " NaNs");
    NETASSAY_REQUIRE(!(counts.scatter[c] < 0), ValueError, kName, ": got a sum of squares of ", counts.scatter[c],
                     ", expected at least 0");
  }
  NETASSAY_REQUIRE(counts.shape_varies ||
                       static_cast<double>(counts.observations) == static_cast<double>(counts.samples) * positions,
                   ValueError, kName, ": got ", counts.observations, " observations, expected ",
                   static_cast<double>(counts.samples) * positions);
  const auto within = [&](std::span<const std::int64_t> got, std::int64_t states_each, std::int64_t most) {
    const std::size_t each = got.size() / static_cast<std::size_t>(states_each);
    for (std::size_t c = 0; c < each; ++c) {
      std::int64_t left = most;
      for (std::size_t k = c; k < got.size(); k += each) {
        NETASSAY_REQUIRE(got[k] <= left, ValueError, kName,
                         ": got a count larger than the number of observations it is of");
        left -= got[k];
      }
    }
  };
  const index_t each = std::max<index_t>(1, o.states() - 1);
  within(counts.state, each, counts.observations);
  within(counts.zero, 1, counts.observations);
  within(counts.nan, 1, counts.observations);
  within(counts.position, each, counts.samples);
  for (std::size_t k = 0; k < counts.square.size(); ++k) {  // sum of n_i^2 <= sum of n_i times the largest n_i
    const auto count = static_cast<double>(counts.state[k]), most = counts.shape_varies ? count : positions;
    NETASSAY_REQUIRE(static_cast<double>(counts.square[k]) <= count * most, ValueError, kName,
                     ": got a sum of squares ", counts.square[k], " of ", counts.state[k], " numbers");
  }
  within(counts.class_observations, std::max<index_t>(1, o.classes), counts.observations);
  for (std::size_t y = 0; y < counts.class_observations.size(); ++y) {
    const std::size_t size = counts.state.size();
    within(std::span(counts.class_state).subspan(y * size, size), each, counts.class_observations[y]);
  }
  const bool keeps = o.patterns && !counts.shape_varies;
  NETASSAY_REQUIRE(counts.patterns.size() == (keeps ? static_cast<std::size_t>(counts.samples * counts.words()) : 0),
                   ShapeError, kName, ": got ", counts.patterns.size(), " words of patterns");
  out.counts_ = std::move(counts);
  return out;
}

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
