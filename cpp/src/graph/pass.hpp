#pragma once
/// One read of a matrix: the largest edge of every row and column, and the edges above a threshold.

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "graph/edges.hpp"
#include "graph/kernel.hpp"
#include "netassay/base/parallel.hpp"

namespace netassay::graph {

/// The largest edge of each vertex of one side: its key, and the lowest vertex of the other side that it leads to.
template <class K>
struct Best {
  std::vector<K> key;
  std::vector<std::uint32_t> at;
  explicit Best(index_t n) : key(static_cast<std::size_t>(n)), at(static_cast<std::size_t>(n)) {}
};

template <class K>
struct Pass {
  Best<K> rows, cols;
  std::vector<Edge> above;  // in the order of the matrix

  Pass(index_t m, index_t n) : rows(m), cols(n) {}
};

template <class K>
inline constexpr K kNoEdges = std::numeric_limits<K>::max();

/// What a worker needs to read rows.
template <class Rows>
class RowReader {
 public:
  using K = typename Rows::Key;
  explicit RowReader(const Rows& rows)
      : rows_(rows), scratch_(static_cast<std::size_t>(rows.cols())), outward_(static_cast<std::size_t>(rows.cols())) {}

  const K* row(index_t i) { return rows_.row(i, scratch_.data()); }

  /// Row i with a weight of zero on every edge inside `own`, the component that the columns' labels are compared with.
  const K* outward(index_t i, std::span<const std::uint32_t> column_labels, std::uint32_t own) {
    const K* all = row(i);
    for (std::size_t j = 0; j < outward_.size(); ++j) outward_[j] = column_labels[j] == own ? K{0} : all[j];
    return outward_.data();
  }

 private:
  const Rows& rows_;
  std::vector<K> scratch_, outward_;
};

/// Reads every row once. Edges whose key is above `threshold` are kept (kNoEdges: none). With labels (rows, then
/// columns), only edges between different labels count; what has none comes out with key zero.
template <class Rows>
Pass<typename Rows::Key> read_all(const Rows& rows, typename Rows::Key threshold, std::span<const std::uint32_t> labels,
                                  const Execution& execution) {
  using K = typename Rows::Key;
  struct Worker {
    RowReader<Rows> reader;
    Best<K> cols;
    std::vector<Hit> hits;
    explicit Worker(const Rows& r) : reader(r), cols(r.cols()), hits(static_cast<std::size_t>(r.cols() / 2 + 1)) {}
  };
  const index_t m = rows.rows(), n = rows.cols();
  const SurveyKernel<K>& kernel = rows.kernel();
  Pass<K> pass(m, n);

  // enough bands to share out evenly and to be interrupted, none too small to be worth a task
  constexpr index_t kLeast = index_t{1} << 16, kMost = index_t{1} << 22;
  const int threads = thread_count(execution.threads);
  const index_t fair = m * n / (index_t{8} * threads);
  const index_t band = std::clamp<index_t>(std::clamp(fair, kLeast, kMost) / std::max<index_t>(n, 1), 1, m);
  const index_t bands = (m + band - 1) / band;
  std::vector<std::vector<Edge>> above(static_cast<std::size_t>(bands));
  std::vector<std::vector<Worker>> workers(static_cast<std::size_t>(threads));

  parallel_for(bands, execution, [&](index_t b, int id) {
    std::vector<Worker>& mine = workers[static_cast<std::size_t>(id)];
    if (mine.empty()) mine.emplace_back(rows);
    auto& [reader, cols, hits] = mine.front();
    std::vector<Edge>& found = above[static_cast<std::size_t>(b)];
    for (index_t i = b * band; i < std::min(m, (b + 1) * band); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const auto row_index = static_cast<std::uint32_t>(i);
      const K* row =
          labels.empty() ? reader.row(i) : reader.outward(i, labels.subspan(static_cast<std::size_t>(m)), labels[at]);
      const index_t count = kernel.survey(row, n, threshold, cols.key.data(), hits.data(), &pass.rows.key[at]);
      pass.rows.at[at] = static_cast<std::uint32_t>(kernel.find(row, n, pass.rows.key[at]));
      for (index_t h = 0; h < count; ++h) {
        for (std::uint64_t lanes = hits[static_cast<std::size_t>(h)].lanes; lanes != 0; lanes &= lanes - 1) {
          const index_t j = hits[static_cast<std::size_t>(h)].first + std::countr_zero(lanes);
          const auto col = static_cast<std::size_t>(j);
          const K key = magnitude<Rows::sign, K>(row[j]);
          if (key > cols.key[col]) {
            cols.key[col] = key;
            cols.at[col] = row_index;
          }
          if (key > threshold) found.push_back({key, row_index, static_cast<std::uint32_t>(j)});
        }
      }
    }
  });

  // bands are handed out in order, so each worker holds its lowest row of a key; the lowest of all is taken
  for (const std::vector<Worker>& mine : workers) {
    if (mine.empty()) continue;
    const Best<K>& cols = mine.front().cols;
    for (std::size_t j = 0; j < cols.key.size(); ++j) {
      K& key = pass.cols.key[j];
      if (cols.key[j] > key || (cols.key[j] == key && key > 0 && cols.at[j] < pass.cols.at[j])) {
        key = cols.key[j];
        pass.cols.at[j] = cols.at[j];
      }
    }
  }
  for (const std::vector<Edge>& found : above) pass.above.insert(pass.above.end(), found.begin(), found.end());
  return pass;
}

}  // namespace netassay::graph
