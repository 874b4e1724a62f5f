#pragma once
/// Maximum spanning tree of a dense bipartite graph.
///
/// # Definition
/// The graph is a matrix W (m rows, n columns) read as m + n vertices and one edge between row i and column j of
/// weight |W_ij|, zeros included.
///
/// # Determinism
/// The multiset of tree weights is unique. With ties the edges are one of several choices, always the same choice for
/// the same matrix, whatever the number of threads.
///
/// # Cost
/// One read of W and some (m + n) log(m + n) work where rows and columns are alike, or where ties or zeros keep them
/// apart; otherwise one more read each time the number of components halves, log2(m + n) at most. Memory: O((m + n)
/// threads), and the edges that pass the filter, about half of max(m, n) ln(m + n).
///
/// # Method
/// The forest of the edges above any threshold is in the tree, and so is every vertex's largest edge. One read finds
/// both, with a threshold that a sample puts a little below the one where edges at random would join everything.
/// Components that are still apart then join by the largest edge that leaves them (Boruvka). Small matrices: Prim.
///
/// # Source
/// Boruvka 1926; Prim 1957; Osipov, Sanders, Singler, "The Filter-Kruskal Minimum Spanning Tree Algorithm"
/// (ALENEX 2009).

#include <cstdint>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"
#include "netassay/base/view.hpp"

namespace netassay {

/// An edge between a row and a column; weight = |W(row, col)|, widened exactly.
struct TreeEdge {
  double weight;
  std::uint32_t row, col;
};

struct SpanningTree {
  /// rows + cols - 1 edges by descending weight.
  std::vector<TreeEdge> edges;
  /// The largest |w| of each row and of each column.
  std::vector<double> row_max, col_max;
};

/// How the tree is found; every method gives the same weights. `automatic` chooses by shape.
enum class TreeMethod { automatic, filter, boruvka, prim };

/// T: double, float, bf16, f16, f8e4m3, f8e5m2, std::int8_t, std::uint8_t. Any strides.
/// Throws ShapeError (no rows or columns, or 2^32 of them), NonFinite (names the first NaN or infinity, [i, j]).
template <class T>
SpanningTree maximum_spanning_tree(const MatrixView<const T>& w, const Execution& execution = {},
                                   TreeMethod method = TreeMethod::automatic);

/// max |W_ij| in one read; throws as above.
template <class T>
double largest_magnitude(const MatrixView<const T>& w, const Execution& execution = {});

}  // namespace netassay
