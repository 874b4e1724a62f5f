#include "netassay/graph/dag.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "graph/dag_walk.hpp"

namespace netassay {
namespace {

constexpr const char* kName = "dag";
constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::uint32_t>::max());

/// A node on a cycle: from any node that is left, edges between nodes that are left lead into one.
Dag::Node on_cycle(const Dag& dag, const std::vector<std::uint32_t>& left) {
  std::vector<Dag::Node> next(left.size());
  for (Dag::Node v = 0; v < left.size(); ++v) {
    if (left[v] == 0) continue;
    for (const Dag::Arrival& in : dag.arrivals(v)) next[in.from] = v;
  }
  auto at =
      static_cast<Dag::Node>(std::find_if(left.begin(), left.end(), [](auto n) { return n != 0; }) - left.begin());
  for (std::size_t step = 0; step < left.size(); ++step) at = next[at];
  return at;
}

}  // namespace

Dag::Dag(index_t nodes, std::span<const std::int64_t> from, std::span<const std::int64_t> to,
         const Execution& execution) {
  NETASSAY_REQUIRE(from.size() == to.size(), ShapeError, kName, ": got ", from.size(), " edges' beginnings and ",
                   to.size(), " ends, expected as many");
  NETASSAY_REQUIRE(nodes >= 0 && static_cast<std::size_t>(nodes) < kMost && from.size() < kMost, ShapeError, kName,
                   ": got ", nodes, " nodes and ", from.size(), " edges, expected 0 to 2^32 - 2 of each");
  begin_.resize(static_cast<std::size_t>(nodes) + 1);
  departures_.resize(static_cast<std::size_t>(nodes));
  bool upward = true;
  for (std::size_t e = 0; e < from.size(); ++e) {
    NETASSAY_REQUIRE(from[e] >= 0 && from[e] < nodes && to[e] >= 0 && to[e] < nodes, ValueError, kName, ": got edge ",
                     e, " from ", from[e], " to ", to[e], ", expected nodes from 0 to ", nodes - 1);
    ++begin_[static_cast<std::size_t>(to[e]) + 1];
    ++departures_[static_cast<std::size_t>(from[e])];
    upward = upward && from[e] < to[e];
  }
  std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
  arrivals_.resize(from.size());
  std::vector<std::uint32_t> at(begin_.begin(), begin_.end() - 1);
  for (std::size_t e = 0; e < from.size(); ++e) {
    arrivals_[at[static_cast<std::size_t>(to[e])]++] = {static_cast<Node>(from[e]), static_cast<std::uint32_t>(e)};
  }
  order_.resize(static_cast<std::size_t>(nodes));
  std::iota(order_.begin(), order_.end(), Node{0});
  if (!upward) sort(execution);
}

/// Kahn's algorithm from the ends backwards: a node is taken when every edge that leaves it leads to one taken before.
void Dag::sort(const Execution& execution) {
  graph::Pulse pulse(execution);
  std::vector<std::uint32_t> left = departures_;
  std::size_t found = 0, taken = 0;
  for (Node v = 0; v < left.size(); ++v) {
    if (left[v] == 0) order_[found++] = v;
  }
  for (; taken < found; ++taken) {
    const auto entering = arrivals(order_[taken]);
    pulse(1 + entering.size());
    for (const Arrival& in : entering) {
      if (--left[in.from] == 0) order_[found++] = in.from;
    }
  }
  NETASSAY_REQUIRE(found == order_.size(), ValueError, kName, ": got a cycle through node ", on_cycle(*this, left),
                   ", expected none");
  std::reverse(order_.begin(), order_.end());
}

}  // namespace netassay
