#pragma once
/// Edges by the key of their weight.

#include <cstdint>
#include <vector>

namespace netassay::graph {

struct Edge {
  std::uint64_t key;
  std::uint32_t row, col;
};

/// All edges by descending key; edges of one key stay in their order. Linear in their number.
std::vector<Edge> sort_descending(const std::vector<std::vector<Edge>>& parts);

}  // namespace netassay::graph
