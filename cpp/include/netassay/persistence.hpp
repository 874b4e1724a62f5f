#pragma once
/// Neural persistence: how large weights are connected.
///
/// W (m outputs, n inputs) is a complete bipartite graph with edges of weight w = |W_ij| / s. Edges enter in descending
/// order; the zero-dimensional persistence diagram is {(1, w) : w in the maximum spanning tree}, and, where the
/// essential class is counted, (1, 0).
///
///     total      = (sum over the diagram of (1 - w)^p)^(1/p)
///     normalized = total / (m + n - 1)^(1/p)
///
/// s is the largest |w| of the whole network, so that layers compare; with a matrix's own, the value describes it
/// alone. Zeros are edges of weight 0. An all-zero matrix has w = 0 for every s, 0 included. Weights are divided in
/// their own format (float32 for the narrower ones, float64 for integers), then widened to float64 and summed with
/// compensation. Never depends on the number of threads. Cost: that of the tree, see graph/forest.hpp.
///
/// Sources: Rieck et al., "Neural Persistence" (ICLR 2019, arXiv 1812.09764); Girrbach et al., "Addressing Caveats of
/// Neural Persistence with Deep Graph Persistence" (TMLR 2023, arXiv 2307.10865), whose code counts the essential
/// class.

#include <span>
#include <vector>

#include "netassay/graph/forest.hpp"

namespace netassay {

struct PersistenceOptions {
  /// p > 0 of the norm.
  double p = 2;
  /// Whether the class that never dies counts, with persistence 1.
  bool essential = true;
  /// Whether weights are divided as float32: true for every float format but double.
  bool single = true;
};

struct NeuralPersistence {
  double total, normalized;
  /// (sum (1 - r_i)^p + sum (1 - c_j)^p - (1 - max)^p)^(1/p), with r, c the maxima of rows and columns over s: never
  /// above the total without the essential class.
  double lower_bound;
  /// The m + n - 1 tree weights over s, descending.
  std::vector<double> weights;
  /// s.
  double scale;
  /// Every weight is zero.
  bool zero;
};

/// tree: m + n - 1 weights, descending; row_max (m), col_max (n): largest magnitudes; none divided yet. scale: s.
/// Throws ValueError: p not above 0, s not finite or below the largest weight. ShapeError: sizes that do not fit.
NeuralPersistence neural_persistence(std::span<const double> tree, std::span<const double> row_max,
                                     std::span<const double> col_max, double scale,
                                     const PersistenceOptions& options = {});

/// The same from a matrix; scale: its own largest weight.
template <class T>
NeuralPersistence neural_persistence(const MatrixView<const T>& w, PersistenceOptions options = {},
                                     const Execution& execution = {}) {
  options.single = sizeof(T) <= 4 && !std::is_integral_v<T>;
  const SpanningTree tree = maximum_spanning_tree(w, execution);
  std::vector<double> weights;
  for (const TreeEdge& edge : tree.edges) weights.push_back(edge.weight);
  return neural_persistence(weights, tree.row_max, tree.col_max, weights.front(), options);
}

/// Kendall's tau-b between the values and their positions 0 ... N - 1: (concordant - discordant pairs) /
/// sqrt(pairs * pairs of unequal values); 0 where all values are equal. O(N log N).
double kendall_tau(std::span<const float> values);

}  // namespace netassay
