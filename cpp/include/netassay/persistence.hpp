#pragma once
/// Neural persistence: how large weights are connected.
///
/// # Definition
/// W (m outputs, n inputs) is a complete bipartite graph with edges of weight w = |W_ij| / s. Edges enter in descending
/// order. The zero-dimensional persistence diagram is {(1, w) : w in the maximum spanning tree}, and, where the
/// essential class is counted, (1, 0).
///
///     total = (sum over the diagram of (1 - w)^p)^(1/p)
///     normalized = total / (m + n - 1)^(1/p)
///
/// s is the largest |w| of the whole network, so that layers compare; with the matrix's own largest |w|, the value
/// describes that matrix alone. Zeros are edges of weight 0. An all-zero matrix has w = 0 for every s, 0 included.
///
/// # Determinism
/// The result never depends on the number of threads.
///
/// # Precision
/// Weights are divided in their own format (float32 for the narrower ones, float64 for integers), then widened to
/// float64 and summed with compensation.
///
/// # Cost
/// The cost is that of the tree, see graph/forest.hpp.
///
/// # Source
/// Rieck et al., "Neural Persistence" (ICLR 2019, arXiv 1812.09764); Girrbach et al., "Addressing Caveats of Neural
/// Persistence with Deep Graph Persistence" (TMLR 2023, arXiv 2307.10865), whose code counts the essential class.

#include <cstdint>
#include <span>
#include <type_traits>
#include <variant>
#include <vector>

#include "netassay/graph/forest.hpp"

namespace netassay {

struct PersistenceOptions {
  /// p > 0 of the norm.
  double p = 2;
  /// Whether the class that never dies counts, with persistence 1.
  bool essential = true;
  /// Whether weights are divided as float32: true for every float format except double.
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

// ---- the network as one graph ---------------------------------------------------------------------------------

/// A weight (out, in) in any of the formats that weights come in.
using AnyWeight = std::variant<MatrixView<const double>, MatrixView<const float>, MatrixView<const bf16>,
                               MatrixView<const f16>, MatrixView<const f8e4m3>, MatrixView<const f8e5m2>,
                               MatrixView<const std::int8_t>, MatrixView<const std::uint8_t>>;

struct DeepOptions {
  double p = 2;
  /// Edges are |w - mean| / std of their layer (population std), over the largest of the network; else |w| over it.
  bool standardize = true;
  /// Divide by the largest bottleneck.
  bool rescale = true;
};

/// Deep graph persistence of a chain of layers.
///
/// # Definition
/// The layers are W_1 (d_1, d_0), ..., W_L (d_L, d_{L-1}), with edges X_l[v, u] between unit u of layer l - 1 and unit
/// v of layer l. S_ij is the largest t such that a path from input i to output j has every edge >= t. Deep graph
/// persistence is the neural persistence of S, essential class included, over (d_0 + d_L - 1)^(1/p). A constant layer
/// (population std 0) has edges of 0 where edges are standardized.
///
/// # Method
/// S is never formed. Let alpha_l(v) be the best bottleneck of a path from any input to v, beta_l(v) that of a path
/// from v to any output, and lambda_l[v, u] = min(X_l[v, u], alpha_{l-1}(u), beta_l(v)) that of the best full path over
/// an edge. Then the edges lambda >= t join the same inputs and outputs as S >= t, for every t. So the maximum spanning
/// forest of lambda gives the tree of S, if only merges of two components that both hold an input or an output count.
/// The result is exact. docs/deep-graph-persistence.md has the proof.
///
/// # Determinism
/// The result never depends on the number of threads.
///
/// # Cost
/// Four reads of the weights, and memory for units only.
///
/// # Source
/// Girrbach et al., arXiv 2307.10865.
struct DeepGraphPersistence {
  double total, normalized;
  /// The largest S over the largest edge.
  double peak;
  /// The d_0 + d_L - 1 tree weights of S, descending, as they enter (1 - w).
  std::vector<double> weights;
  /// Layers whose weights are all equal, from 0.
  std::vector<index_t> constant;
  /// No path has an edge above 0.
  bool zero;
};

/// Throws ShapeError (no layers, an empty one, sizes that do not chain), ValueError (p), NonFinite (names the layer).
DeepGraphPersistence deep_graph_persistence(std::span<const AnyWeight> chain, const DeepOptions& options = {},
                                            const Execution& execution = {});

struct SampleOptions {
  /// Edges (a - mean) / (std + 1e-8) of their layer, std with divisor n - 1; else a.
  bool standardize = false;
  /// Over the largest edge of the sample.
  bool joint = false;
  /// Row maxima, then column maxima of S (d_0 + d_L of them, unsorted) in place of its tree weights.
  bool approximate = false;
};

/// The bottleneck graph of every sample: edges |a|, a_l[v, u] = W_l[v, u] x_{l-1}[u]. inputs[l] (samples, d_l) is what
/// enters layer l + 1. The result has one row per sample: the d_0 + d_L - 1 tree weights of S, descending. Samples
/// share the threads. Throws as above.
std::vector<std::vector<double>> sample_persistence(std::span<const AnyWeight> chain,
                                                    std::span<const MatrixView<const float>> inputs,
                                                    const SampleOptions& options = {}, const Execution& execution = {});

/// One row per sample: the d_in + d_out - 1 weights, descending, of the maximum spanning tree of |W[v, u] x[u]|.
/// Source: Lacombe et al., "Topological Uncertainty" (IJCAI 2021).
std::vector<std::vector<double>> topological_uncertainty(const AnyWeight& weight, const MatrixView<const float>& input,
                                                         const Execution& execution = {});

/// Kendall's tau-b between the values and their positions 0 ... N - 1:
/// (concordant - discordant pairs) / sqrt(pairs * pairs of unequal values); 0 where all values are equal. O(N log N).
double kendall_tau(std::span<const float> values);

/// P(D >= furthest / (n m)), D the two-sample Kolmogorov-Smirnov statistic of n and m values of one continuous
/// distribution. Every order of the n + m values is as likely as any other: a path from (0, 0) to (n, m) by unit steps,
/// which leaves the band |i m - j n| < furthest or does not. Relative error about (n + m) 2^-53. O(n m).
/// Throws ValueError unless n, m >= 1. Source: Hodges, "The significance probability of the Smirnov two-sample test"
/// (1958).
double smirnov(index_t furthest, index_t n, index_t m);

}  // namespace netassay
