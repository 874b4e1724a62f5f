#include "netassay/graph/forest.hpp"

#include <algorithm>
#include <cstddef>

#include "graph/rows.hpp"
#include "graph/tree.hpp"

namespace netassay {
namespace {

using graph::Edge;
using graph::StoredRows;

template <class T>
void require_size(const MatrixView<const T>& w, const char* function) {
  constexpr index_t kMost = index_t{1} << 32;
  NETASSAY_REQUIRE(w.rows > 0 && w.cols > 0 && w.rows + w.cols < kMost, ShapeError, function, ": got a matrix of ",
                   w.rows, " x ", w.cols, ", expected 1 to 2^32 rows and columns");
}

/// Throws where the largest key of a row is no finite number.
template <class T>
void require_finite(const MatrixView<const T>& w, const std::vector<typename StoredRows<T>::Key>& row_largest,
                    const char* function) {
  using Rows = StoredRows<T>;
  if constexpr (Rows::nonfinite != 0) {
    const auto bad = [](auto key) { return key >= Rows::nonfinite; };
    const auto found = std::find_if(row_largest.begin(), row_largest.end(), bad);
    if (found == row_largest.end()) return;
    const index_t i = found - row_largest.begin();
    index_t j = 0;
    while (!bad(Rows(w).key(i, j))) ++j;
    detail::fail<NonFinite>(function, ": got NaN or infinity at [", i, ", ", j, "], expected finite weights");
  }
}

/// Rows side by side where that is one of the two ways round: a tree does not know rows from columns.
template <class T>
bool turned(const MatrixView<const T>& w) {
  return w.col_stride != 1 && w.row_stride == 1;
}

template <class T>
MatrixView<const T> turn(const MatrixView<const T>& w) {
  return {w.data, w.cols, w.rows, w.col_stride, w.row_stride};
}

}  // namespace

template <class T>
SpanningTree maximum_spanning_tree(const MatrixView<const T>& w, const Execution& execution, TreeMethod method) {
  constexpr const char* kName = "maximum_spanning_tree";
  require_size(w, kName);
  const bool swap = turned(w);
  using Rows = StoredRows<T>;
  const Rows rows(swap ? turn(w) : w);
  auto spanned = graph::span_rows(rows, execution, method, [&](const auto& pass) {
    require_finite(w, swap ? pass.cols.key : pass.rows.key, kName);
  });
  SpanningTree out;
  out.edges.reserve(spanned.tree.size());
  for (const Edge& e : spanned.tree) {
    out.edges.push_back({Rows::value(e.key), swap ? e.col : e.row, swap ? e.row : e.col});
  }
  const auto values = [](const auto& keys) {
    std::vector<double> widened(keys.size());
    std::transform(keys.begin(), keys.end(), widened.begin(), [](auto key) { return Rows::value(key); });
    return widened;
  };
  out.row_max = values(spanned.pass.rows.key);
  out.col_max = values(spanned.pass.cols.key);
  if (swap) out.row_max.swap(out.col_max);
  return out;
}

template <class T>
double largest_magnitude(const MatrixView<const T>& w, const Execution& execution) {
  constexpr const char* kName = "largest_magnitude";
  require_size(w, kName);
  const bool swap = turned(w);
  using Rows = StoredRows<T>;
  using K = typename Rows::Key;
  const Rows rows(swap ? turn(w) : w);
  std::vector<K> largest(static_cast<std::size_t>(rows.rows()));
  constexpr index_t kElements = index_t{1} << 18;
  const index_t band = std::clamp<index_t>(kElements / rows.cols(), 1, rows.rows());
  parallel_for((rows.rows() + band - 1) / band, execution, [&](index_t b, int) {
    graph::RowReader<Rows> reader(rows);
    for (index_t i = b * band; i < std::min(rows.rows(), (b + 1) * band); ++i) {
      largest[static_cast<std::size_t>(i)] = rows.kernel().largest(reader.row(i), rows.cols());
    }
  });
  const auto most = *std::max_element(largest.begin(), largest.end());
  if (Rows::nonfinite != 0 && most >= Rows::nonfinite) {
    for (index_t i = 0; i < w.rows; ++i) {
      for (index_t j = 0; j < w.cols; ++j) {
        if (Rows(w).key(i, j) >= Rows::nonfinite) {
          detail::fail<NonFinite>(kName, ": got NaN or infinity at [", i, ", ", j, "], expected finite weights");
        }
      }
    }
  }
  return Rows::value(most);
}

#define NETASSAY_FOREST(T)                                                                                         \
  template SpanningTree maximum_spanning_tree<T>(const MatrixView<const T>&, const Execution&, TreeMethod method); \
  template double largest_magnitude<T>(const MatrixView<const T>&, const Execution&);
NETASSAY_FOREST(double)
NETASSAY_FOREST(float)
NETASSAY_FOREST(bf16)
NETASSAY_FOREST(f16)
NETASSAY_FOREST(f8e4m3)
NETASSAY_FOREST(f8e5m2)
NETASSAY_FOREST(std::int8_t)
NETASSAY_FOREST(std::uint8_t)
#undef NETASSAY_FOREST

}  // namespace netassay
