#pragma once
/// Sums over the paths of a directed acyclic graph with weighted edges, and its minimum vertex cuts.
///
/// # Definition
/// A semiring (K, plus, times, zero, one) and a gain of every edge give every node v
///
///     t(v) = plus over the paths from a source to v of (times over the edges e of the path of gain(e)),
///
/// by t(source) = one and t(v) = plus over the edges e = (u, v) of t(u) times gain(e), in topological order. The empty
/// path counts: a source that edges enter has one plus what arrives. Sources are the nodes that the caller gives, in
/// any order and any number of times; if none are given, all nodes that no edge enters. A node that no path reaches has
/// the semiring's zero. So has a node that is reached over edges of gain zero alone: such edges are as good as absent.
/// Parallel edges are edges like any others. An edge that enters a node twice enters it twice in each sum.
///
/// # Semirings
/// - log2_path_sums: (log2-sum-exp, +), one 0, zero -inf. A gain is the log2 of a factor, below +inf.
/// - longest_paths: (max, +), one 0, zero -inf. A gain is below +inf.
/// - shortest_paths: (min, +), one 0, zero +inf. A gain is above -inf.
/// - widest_paths: (max, min), one +inf, zero -inf. A gain is any number but NaN.
/// - path_counts: (+, x) on naturals, one 1, zero 0. A gain is how many edges the edge stands for.
/// - path_lengths: (+, x) on their polynomials, one 1, zero 0. A gain is the k of z^k.
/// - receptive_fields: see there; one (1, 1), zero (0, 0). A gain is extent and stride.
///
/// # Failure
/// A number that is no gain is refused as NonFinite, which names the edge. So is a sum that leaves the range of a
/// double, by its node; where a sum leaves the range towards the semiring's zero, it is as good as no path.
/// Another number of gains than edges is a ShapeError. Nodes of a list (sources, targets, products) that the graph
/// does not have: ValueError.
///
/// # Determinism
/// Results are the same bits for the same input: a node adds what enters it in the order of the edges' indices.
///
/// # Cost
/// O(nodes + edges) for scalars, 0.1 to 0.6 s at 1e6 and 3e6 with the Dag itself. One thread works;
/// Execution::poll is called now and then, Execution::threads is ignored. There is no recursion, so paths may be
/// as long as memory has nodes.
///
/// # Source
/// Mohri, "Semiring frameworks and algorithms for shortest-distance problems" (J. Automata, Languages and Combinatorics
/// 7, 2002); Menger 1927; Dinic 1970 (maximum flow); Cooper, Harvey, Kennedy 2001 (dominators).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "netassay/base/natural.hpp"
#include "netassay/base/parallel.hpp"

namespace netassay {

/// A directed acyclic graph on nodes 0 ... n - 1; parallel edges are allowed. Memory: 12 bytes a node, 8 an edge.
class Dag {
 public:
  using Node = std::uint32_t;
  /// An edge as the node that it enters sees it.
  struct Arrival {
    Node from;
    std::uint32_t edge;
  };

  /// Edge e goes from from[e] to to[e]. Throws ShapeError (from and to of different length; a negative number of nodes;
  /// 2^32 - 1 nodes or edges and more), ValueError (an end that is no node, naming the first such edge; a cycle, naming
  /// a node on one, of an edge to itself too).
  Dag(index_t nodes, std::span<const std::int64_t> from, std::span<const std::int64_t> to,
      const Execution& execution = {});

  index_t nodes() const { return static_cast<index_t>(departures_.size()); }
  index_t edges() const { return static_cast<index_t>(arrivals_.size()); }
  /// Every node, none before one that it is reached from: 0 ... n - 1 where every edge goes to a larger number.
  std::span<const Node> order() const { return order_; }
  /// The edges that enter a node, by ascending index.
  std::span<const Arrival> arrivals(Node v) const {
    return std::span(arrivals_).subspan(begin_[v], begin_[v + 1] - begin_[v]);
  }
  /// How many edges leave a node.
  std::uint32_t departures(Node v) const { return departures_[v]; }

 private:
  void sort(const Execution& execution);

  std::vector<std::uint32_t> begin_, departures_;
  std::vector<Arrival> arrivals_;
  std::vector<Node> order_;
};

/// Nodes by their numbers. Each function states what no list means.
using NodeList = std::optional<std::span<const std::int64_t>>;

/// t(v) in bits, (nodes). The terms of a sum are taken relative to the largest, so that nothing overflows: each node
/// adds a few units in the last place of t(v), whatever its size.
///
/// products: nodes whose plus is a times. There t(v) = times over what arrives; an arrival that no path reaches counts
/// as one, and t(v) is zero where no path reaches any arrival. A source among these nodes has one plus that product.
std::vector<double> log2_path_sums(const Dag& dag, std::span<const double> gains, NodeList sources = {},
                                   std::span<const std::int64_t> products = {}, const Execution& execution = {});

/// d log2 total / d gain(e) of every edge, where total = plus over the targets of t(target). Targets are the nodes
/// given, each once; if none are given, the nodes that no edge leaves. Where every node adds, this is the share of the
/// total that goes through e: it is in [0, 1], 1 in a chain, and over the edges that leave the sources the shares add
/// up to 1 except for empty paths. All factors that reach a product have its whole share. An edge that carries nothing
/// has 0; every edge has 0 where total is zero.
std::vector<double> path_shares(const Dag& dag, std::span<const double> gains, NodeList sources = {},
                                std::span<const std::int64_t> products = {}, NodeList targets = {},
                                const Execution& execution = {});

/// (nodes) each: the largest and smallest sum of gains over a path, and the largest of the paths' smallest gains.
std::vector<double> longest_paths(const Dag& dag, std::span<const double> gains, NodeList sources = {},
                                  const Execution& execution = {});
std::vector<double> shortest_paths(const Dag& dag, std::span<const double> gains, NodeList sources = {},
                                   const Execution& execution = {});
std::vector<double> widest_paths(const Dag& dag, std::span<const double> gains, NodeList sources = {},
                                 const Execution& execution = {});

/// The bytes that exact numbers of a call may take at once; more is LimitExceeded.
inline constexpr std::size_t kPathBytes = std::size_t{1} << 30;

/// The exact number of paths to each target, in the order given (none given: to every node); multiplicities: how many
/// edges each stands for, 0 allowed. A number is dropped after its last use, unless it was asked for.
std::vector<Natural> path_counts(const Dag& dag, std::span<const std::uint64_t> multiplicities, NodeList sources = {},
                                 NodeList targets = {}, const Execution& execution = {});

/// The path lengths of each target, in the order given (none given: the nodes that no edge leaves, ascending). Element
/// i is the number of paths of length i, and the last element is not 0; the list is empty where no path arrives.
/// lengths: the length of each edge, 0 allowed.
std::vector<std::vector<Natural>> path_lengths(const Dag& dag, std::span<const std::uint32_t> lengths,
                                               NodeList sources = {}, NodeList targets = {},
                                               const Execution& execution = {});

/// What a node sees of the sources, (nodes) each: `size` positions r, `stride` j of them between neighbours. r = j = 0
/// where no path arrives.
struct ReceptiveFields {
  std::vector<double> size, stride;
  /// 0 where paths of different j meet (by more than 1e-9 of the larger one, which is kept), and downstream of it.
  std::vector<std::uint8_t> consistent;
};

/// r' = r + extent j, j' = j stride along an edge; r the largest and j the common one of what arrives; (1, 1) at
/// sources. extents: kernel size less one, dilation counted, >= 0, +inf for all there is; strides: > 0, finite.
/// Throws NonFinite (NaN, an infinite stride, naming the edge), ValueError (a negative extent, a stride not above 0).
ReceptiveFields receptive_fields(const Dag& dag, std::span<const double> extents, std::span<const double> strides,
                                 NodeList sources = {}, const Execution& execution = {});

struct VertexCut {
  /// The sum of the nodes' capacities; -1 where no path arrives.
  std::int64_t value;
  /// Ascending; of all minimum cuts the one next to the sources.
  std::vector<std::int64_t> nodes;
};

/// The smallest sum of capacities of a set of nodes that every path from a source to the target meets, sources and the
/// target included, by maximum flow (Menger; Dinic). capacities: (nodes), >= 0. Throws ShapeError (another number of
/// them), ValueError (a negative one; 2^63 - 1 and more in all; no such target), LimitExceeded (2^30 nodes and edges).
VertexCut minimum_vertex_cut(const Dag& dag, std::span<const std::int64_t> capacities, NodeList sources,
                             std::int64_t target, const Execution& execution = {});

/// The value of the minimum cut of every node, -1 where no path arrives. Exact: with d the last node that every path to
/// v meets (its dominator), cut(v) = min(cut(d), cut from d to v), so a node with one predecessor costs nothing and one
/// with several a flow between d and itself. Throws as above.
std::vector<std::int64_t> minimum_vertex_cuts(const Dag& dag, std::span<const std::int64_t> capacities,
                                              NodeList sources = {}, const Execution& execution = {});

}  // namespace netassay
