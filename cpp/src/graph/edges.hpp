#pragma once
/// Edges by the key of their weight.

#include <cstdint>
#include <vector>

namespace netassay::graph {

struct Edge {
  std::uint64_t key;
  std::uint32_t row, col;
};

/// By descending key; edges of one key stay in their order. Linear in the number of edges.
void sort_descending(std::vector<Edge>& edges);

}  // namespace netassay::graph
