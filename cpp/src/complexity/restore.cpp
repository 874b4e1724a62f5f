/// A state made of counts that come from elsewhere: a file, or another device.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "complexity/batch.hpp"
#include "complexity/count.hpp"
#include "netassay/complexity.hpp"

namespace netassay {
namespace {

constexpr const char* kName = "Switching.from_counts";

/// One array of counts and what it must be.
struct Array {
  const std::vector<std::int64_t>& got;
  const char* name;
  double length;
  /// The counts of one unit in `states` states are at most `most` together; 0: no such bound.
  std::int64_t most = 0;
  index_t states = 1;
};

void check_length(const Array& array) {
  NETASSAY_REQUIRE(static_cast<double>(array.got.size()) == array.length, ShapeError, kName, ": got ", array.got.size(),
                   " numbers of ", array.name, ", expected ", array.length);
  NETASSAY_REQUIRE(std::all_of(array.got.begin(), array.got.end(), [](std::int64_t n) { return n >= 0; }), ValueError,
                   kName, ": got a negative number of ", array.name, ", expected at least 0");
}

/// counts (states, ...): those of all states of one unit are of at most `most` numbers together.
void check_within(std::span<const std::int64_t> counts, index_t states, std::int64_t most) {
  const std::size_t each = counts.size() / complexity::size(states);
  for (std::size_t c = 0; c < each; ++c) {
    std::int64_t left = most;
    for (std::size_t k = c; k < counts.size(); k += each) {
      NETASSAY_REQUIRE(counts[k] <= left, ValueError, kName,
                       ": got a count larger than the number of observations it is of");
      left -= counts[k];
    }
  }
}

void check_sizes(const SwitchingCounts& c) {
  NETASSAY_REQUIRE(c.samples >= 0 && c.units >= 0 && c.observations >= c.samples && (c.samples == 0) == (c.units == 0),
                   ValueError, kName, ": got ", c.samples, " samples, ", c.observations, " observations and ", c.units,
                   " units");
  NETASSAY_REQUIRE(c.shape.empty() || !c.shape_varies, ShapeError, kName, ": got ", c.shape.size(),
                   " position axes whose shape has varied, expected none");
  for (const index_t extent : c.shape) {
    NETASSAY_REQUIRE(extent > 0, ShapeError, kName, ": got an extent of ", extent, ", expected at least 1");
  }
}

void check_moments(const SwitchingCounts& c) {
  NETASSAY_REQUIRE(c.mean.size() == c.finite.size() && c.scatter.size() == c.finite.size(), ShapeError, kName, ": got ",
                   c.mean.size(), " means and ", c.scatter.size(), " scatters, expected ", c.finite.size());
  for (std::size_t k = 0; k < c.finite.size(); ++k) {
    NETASSAY_REQUIRE(c.finite[k] <= c.observations - c.nan[k], ValueError, kName, ": got ", c.finite[k],
                     " finite numbers of ", c.observations, " with ", c.nan[k], " NaNs");
    NETASSAY_REQUIRE(!(c.scatter[k] < 0), ValueError, kName, ": got a sum of squares of ", c.scatter[k],
                     ", expected at least 0");
  }
}

/// sum of n_i^2 <= sum of n_i times the largest n_i
void check_squares(const SwitchingCounts& c, double positions) {
  for (std::size_t k = 0; k < c.square.size(); ++k) {
    const auto count = static_cast<double>(c.state[k]), most = c.shape_varies ? count : positions;
    NETASSAY_REQUIRE(static_cast<double>(c.square[k]) <= count * most, ValueError, kName, ": got a sum of squares ",
                     c.square[k], " of ", c.state[k], " numbers");
  }
}

void check_patterns(const SwitchingCounts& c, bool kept) {
  NETASSAY_REQUIRE(c.patterns.size() == (kept ? complexity::size(c.samples * c.words()) : 0), ShapeError, kName,
                   ": got ", c.patterns.size(), " words of patterns");
}

}  // namespace

Switching Switching::from_counts(Options options, SwitchingCounts counts) {
  Switching out(std::move(options));
  const Options& o = out.options_;
  const SwitchingCounts& c = counts;
  check_sizes(c);
  // in float64: nothing is allocated, and nothing overflows, for sizes that are not those of the arrays
  const auto units = static_cast<double>(c.units), classes = c.units > 0 ? static_cast<double>(o.classes) : 0.0;
  const double states = static_cast<double>(o.states() - 1) * units;
  double positions = 1;
  for (const index_t extent : c.shape) positions *= static_cast<double>(extent);
  const bool by_position = o.positions && !c.shape_varies && !c.shape.empty();
  const index_t each = std::max<index_t>(1, o.states() - 1);
  const Array arrays[] = {
      {c.state, "states", states, c.observations, each},
      {c.zero, "zeros", units, c.observations},
      {c.nan, "NaNs", units, c.observations},
      {c.square, "squares", states},
      {c.position, "positions", by_position ? states * positions : 0, c.samples, each},
      {c.class_state, "classes", classes * states},
      {c.class_observations, "class observations", classes, c.observations, std::max<index_t>(1, o.classes)},
      {c.finite, "finite numbers", o.sums ? units : 0},
  };
  for (const Array& array : arrays) check_length(array);
  check_moments(c);
  NETASSAY_REQUIRE(c.shape_varies || static_cast<double>(c.observations) == static_cast<double>(c.samples) * positions,
                   ValueError, kName, ": got ", c.observations, " observations, expected ",
                   static_cast<double>(c.samples) * positions);
  for (const Array& array : arrays) {
    if (array.most > 0) check_within(array.got, array.states, array.most);
  }
  check_squares(c, positions);
  for (std::size_t y = 0; y < c.class_observations.size(); ++y) {
    const std::size_t size = c.state.size();
    check_within(std::span(c.class_state).subspan(y * size, size), each, c.class_observations[y]);
  }
  check_patterns(c, o.patterns && !c.shape_varies);
  out.counts_ = std::move(counts);
  return out;
}

}  // namespace netassay
