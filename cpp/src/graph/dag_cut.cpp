#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "graph/dag_walk.hpp"
#include "graph/flow.hpp"
#include "netassay/graph/dag.hpp"

namespace netassay {
namespace {

using namespace graph;
using Node = Dag::Node;

constexpr std::int64_t kUnreached = -1;

void require_capacities(const Dag& dag, std::span<const std::int64_t> capacities, const char* function) {
  require_count(capacities, dag.nodes(), function, "capacities", "node");
  constexpr index_t kMost = index_t{1} << 30;
  NETASSAY_REQUIRE(dag.nodes() + dag.edges() < kMost, LimitExceeded, function, ": got ", dag.nodes(), " nodes and ",
                   dag.edges(), " edges, expected fewer than 2^30");
  std::int64_t left = Flow::kUnbounded - 1;
  for (std::size_t v = 0; v < capacities.size(); ++v) {
    NETASSAY_REQUIRE(capacities[v] >= 0, ValueError, function, ": got capacity ", capacities[v], " of node ", v,
                     ", expected none below 0");
    NETASSAY_REQUIRE(capacities[v] <= left, ValueError, function,
                     ": got capacities of 2^63 - 1 and more in all, expected smaller ones");
    left -= capacities[v];
  }
}

/// Where a path from a source arrives.
Mask reached_from(const Dag& dag, Mask reached) {
  for (const Node v : dag.order()) {
    for (const Dag::Arrival& in : dag.arrivals(v)) reached[v] |= reached[in.from];
  }
  return reached;
}

/// The flow network between `top`, or the sources where it is the root, and one node: a node is an arc from its
/// entrance to its exit with its capacity, an edge an arc without bound.
class Region {
 public:
  Region(const Dag& dag, std::span<const std::int64_t> capacities, const Mask& source, const Mask& reached)
      : dag_(dag), capacities_(capacities), source_(source), reached_(reached), local_(source.size(), kOutside) {}

  /// The value of the cut, or `enough` where it is as large; nodes of the cut are asked for after a run without bound.
  std::int64_t run(std::size_t top, Node target, std::int64_t enough, Pulse& pulse,
                   std::vector<std::int64_t>* cut = nullptr) {
    collect(top, target, pulse);
    const auto start = static_cast<Node>(2 * inside_.size());
    Flow flow(2 * inside_.size() + 1);
    for (const Node v : inside_) {
      const Node entrance = 2 * local_[v], exit = entrance + 1;
      flow.arc(entrance, exit, capacities_[v]);
      if (source_[v] && top == root()) flow.arc(start, entrance, Flow::kUnbounded);
      for (const Dag::Arrival& in : dag_.arrivals(v)) {
        if (in.from == top) flow.arc(start, entrance, Flow::kUnbounded);
        if (local_[in.from] != kOutside) flow.arc(2 * local_[in.from] + 1, entrance, Flow::kUnbounded);
      }
    }
    const std::int64_t value = flow.run(start, 2 * local_[target] + 1, enough, pulse);
    for (const Node v : inside_) {
      if (cut && flow.reached(2 * local_[v]) && !flow.reached(2 * local_[v] + 1)) cut->push_back(v);
      local_[v] = kOutside;
    }
    return value;
  }

  std::size_t root() const { return local_.size(); }

 private:
  static constexpr Node kOutside = std::numeric_limits<Node>::max();

  /// What the target is reached from without passing top.
  void collect(std::size_t top, Node target, Pulse& pulse) {
    inside_.assign(1, target);
    local_[target] = 0;
    for (std::size_t k = 0; k < inside_.size(); ++k) {
      const auto arrivals = dag_.arrivals(inside_[k]);
      pulse(1 + arrivals.size());
      for (const Dag::Arrival& in : arrivals) {
        if (in.from == top || !reached_[in.from] || local_[in.from] != kOutside) continue;
        local_[in.from] = static_cast<Node>(inside_.size());
        inside_.push_back(in.from);
      }
    }
  }

  const Dag& dag_;
  std::span<const std::int64_t> capacities_;
  const Mask& source_;
  const Mask& reached_;
  std::vector<Node> local_, inside_;
};

/// The tree of dominators, grown in topological order below a root that leads to every source. Each node knows its
/// parent and one far ancestor, which together reach any ancestor in O(log depth) steps (Myers 1983).
class Dominators {
 public:
  explicit Dominators(std::size_t nodes) : parent_(nodes + 1), far_(nodes + 1), depth_(nodes + 1) {
    parent_[nodes] = far_[nodes] = static_cast<Node>(nodes);
  }

  void hang(Node v, Node parent) {
    const Node far = far_[parent];
    const bool even = depth_[parent] - depth_[far] == depth_[far] - depth_[far_[far]];
    parent_[v] = parent;
    far_[v] = even ? far_[far] : parent;
    depth_[v] = depth_[parent] + 1;
  }

  /// The last node that dominates both.
  Node common(Node a, Node b) const {
    if (depth_[a] < depth_[b]) std::swap(a, b);
    while (depth_[a] > depth_[b]) a = depth_[far_[a]] >= depth_[b] ? far_[a] : parent_[a];
    while (a != b) {
      const bool jump = far_[a] != far_[b];
      a = jump ? far_[a] : parent_[a];
      b = jump ? far_[b] : parent_[b];
    }
    return a;
  }

 private:
  std::vector<Node> parent_, far_, depth_;
};

}  // namespace

VertexCut minimum_vertex_cut(const Dag& dag, std::span<const std::int64_t> capacities, NodeList sources,
                             std::int64_t target, const Execution& execution) {
  constexpr const char* kName = "minimum_vertex_cut";
  require_capacities(dag, capacities, kName);
  const Node sink = checked(dag, target, kName, "target");
  const Mask source = source_mask(dag, sources, kName), reached = reached_from(dag, source);
  if (!reached[sink]) return {kUnreached, {}};
  Pulse pulse(execution);
  Region region(dag, capacities, source, reached);
  VertexCut out{};
  out.value = region.run(region.root(), sink, Flow::kUnbounded, pulse, &out.nodes);
  std::sort(out.nodes.begin(), out.nodes.end());
  return out;
}

std::vector<std::int64_t> minimum_vertex_cuts(const Dag& dag, std::span<const std::int64_t> capacities,
                                              NodeList sources, const Execution& execution) {
  constexpr const char* kName = "minimum_vertex_cuts";
  require_capacities(dag, capacities, kName);
  const Mask source = source_mask(dag, sources, kName), reached = reached_from(dag, source);
  const auto root = static_cast<Node>(dag.nodes());
  std::vector<std::int64_t> cut(reached.size(), kUnreached);
  Region region(dag, capacities, source, reached);
  Dominators tree(reached.size());
  Pulse pulse(execution);
  for (const Node v : dag.order()) {
    if (!reached[v]) continue;
    const auto arrivals = dag.arrivals(v);
    pulse(1 + arrivals.size());
    std::optional<Node> above;
    if (source[v]) above = root;
    bool join = false;
    for (const Dag::Arrival& in : arrivals) {
      if (source[v] || !reached[in.from]) continue;
      join = join || (above && *above != in.from);
      above = above ? tree.common(*above, in.from) : in.from;
    }
    tree.hang(v, *above);
    // a source is a path by itself, which only itself meets
    const std::int64_t before = *above == root ? Flow::kUnbounded : cut[*above];
    cut[v] = join ? region.run(*above, v, before, pulse) : std::min(before, capacities[v]);
  }
  return cut;
}

}  // namespace netassay
