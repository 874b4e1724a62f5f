#pragma once
/// What the walks over a Dag share: lists of nodes as masks, and the poll.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "netassay/graph/dag.hpp"

namespace netassay::graph {

using Mask = std::vector<std::uint8_t>;

/// Calls the poll after so much work that less than some milliseconds lie between two calls.
class Pulse {
 public:
  explicit Pulse(const Execution& execution) : poll_(execution.poll) {}
  void operator()(std::size_t work) {
    done_ += work;
    if (done_ < kWork) return;
    done_ = 0;
    if (poll_) poll_();
  }

 private:
  static constexpr std::size_t kWork = std::size_t{1} << 18;
  const std::function<void()>& poll_;
  std::size_t done_ = 0;
};

/// Throws ValueError where `node` is none of the graph's.
inline Dag::Node checked(const Dag& dag, std::int64_t node, const char* function, const char* role) {
  NETASSAY_REQUIRE(node >= 0 && node < dag.nodes(), ValueError, function, ": got ", role, " ", node,
                   ", expected a node below ", dag.nodes());
  return static_cast<Dag::Node>(node);
}

inline Mask mask(const Dag& dag, std::span<const std::int64_t> nodes, const char* function, const char* role) {
  Mask out(static_cast<std::size_t>(dag.nodes()));
  for (const std::int64_t node : nodes) out[checked(dag, node, function, role)] = 1;
  return out;
}

/// Those given, else the nodes that no edge enters.
inline Mask source_mask(const Dag& dag, const NodeList& sources, const char* function) {
  if (sources) return mask(dag, *sources, function, "source");
  Mask out(static_cast<std::size_t>(dag.nodes()));
  for (const Dag::Node v : dag.order()) out[v] = dag.arrivals(v).empty();
  return out;
}

/// The nodes that no edge leaves, ascending.
inline std::vector<std::int64_t> ends(const Dag& dag) {
  std::vector<std::int64_t> out;
  for (index_t v = 0; v < dag.nodes(); ++v) {
    if (dag.departures(static_cast<Dag::Node>(v)) == 0) out.push_back(v);
  }
  return out;
}

/// Throws ShapeError unless there are as many as `expected`.
template <class T>
void require_count(std::span<const T> values, index_t expected, const char* function, const char* what,
                   const char* of) {
  const auto got = static_cast<index_t>(values.size());
  NETASSAY_REQUIRE(got == expected, ShapeError, function, ": got ", got, " ", what, ", expected ", expected,
                   ", one for each ", of);
}

}  // namespace netassay::graph
