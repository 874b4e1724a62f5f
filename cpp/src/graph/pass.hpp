#pragma once
/// One read of a matrix: the largest edge of every row and column, and the edges above a threshold.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>
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
  std::vector<std::vector<Edge>> above;  // band by band

  Pass(index_t m, index_t n) : rows(m), cols(n) {}
};

/// Above every key; those of 8 bytes have no top bit, and are compared as signed numbers by some kernels.
template <class K>
inline constexpr K kNoEdges = std::numeric_limits<K>::max() >> (sizeof(K) == 8);

/// What a worker needs to read rows.
template <class Rows>
class RowReader {
 public:
  using K = typename Rows::Key;
  /// At most `together` rows are in use at a time.
  explicit RowReader(const Rows& rows, index_t together = 1)
      : rows_(rows), width_(rows.cols()), scratch_(static_cast<std::size_t>(together * width_)) {}

  /// Row i as it is stored, side by side.
  const K* row(index_t i, index_t place = 0) { return rows_.row(i, scratch_.data() + place * width_); }

  /// Row i with a weight of zero on every edge inside `own`, the component that the columns' labels are compared with.
  const K* outward(index_t i, std::span<const std::uint32_t> column_labels, std::uint32_t own, index_t place = 0) {
    K* out = scratch_.data() + place * width_;
    const K* all = rows_.row(i, out);
    for (index_t j = 0; j < width_; ++j) out[j] = column_labels[static_cast<std::size_t>(j)] == own ? K{0} : all[j];
    return out;
  }

 private:
  const Rows& rows_;
  index_t width_;
  std::vector<K> scratch_;
};

/// Reads every row once. Edges whose key is above `threshold` are kept (kNoEdges: none); `expected` tells how many they
/// may be. With labels (rows, then columns), only edges between different labels count; what has none comes out with
/// key zero. Where a vertex's key is above the threshold, `at` is not told: its edge is among those kept.
template <class Rows>
class Reading {
 public:
  using K = typename Rows::Key;

  Reading(const Rows& rows, K threshold, index_t expected, std::span<const std::uint32_t> labels)
      : rows_(rows), threshold_(threshold), expected_(expected), labels_(labels), pass_(rows.rows(), rows.cols()) {}

  Pass<K> run(const Execution& execution) {
    // bands do not depend on the number of threads, so neither does the order of the edges that are kept
    constexpr index_t kElements = index_t{1} << 18;
    const index_t m = rows_.rows(), n = rows_.cols();
    const index_t band = std::clamp<index_t>(kElements / n / kTogether * kTogether, kTogether, m + kTogether);
    const index_t bands = (m + band - 1) / band;
    pass_.above.resize(static_cast<std::size_t>(bands));
    std::vector<std::optional<Worker>> workers(static_cast<std::size_t>(thread_count(execution.threads)));
    parallel_for(bands, execution, [&](index_t b, int id) {
      std::optional<Worker>& mine = workers[static_cast<std::size_t>(id)];
      if (!mine) mine.emplace(rows_);
      std::vector<Edge>& kept = pass_.above[static_cast<std::size_t>(b)];
      kept.reserve(static_cast<std::size_t>(expected_ / bands));
      for (index_t i = b * band; i < std::min(m, (b + 1) * band); i += kTogether) {
        read(i, static_cast<int>(std::min<index_t>(kTogether, m - i)), *mine, kept);
      }
    });
    for (const std::optional<Worker>& mine : workers) {
      if (mine) merge(mine->cols);
    }
    return std::move(pass_);
  }

 private:
  struct Worker {
    RowReader<Rows> reader;
    Best<K> cols;
    std::unique_ptr<Hit[]> hits;
    explicit Worker(const Rows& r)
        : reader(r, kTogether),
          cols(r.cols()),
          hits(std::make_unique_for_overwrite<Hit[]>(static_cast<std::size_t>(most_hits<K>(r.cols())))) {}
  };

  void read(index_t first, int count, Worker& worker, std::vector<Edge>& kept) {
    auto& [reader, cols, hits] = worker;
    const index_t m = rows_.rows(), n = rows_.cols();
    const SurveyKernel<K>& kernel = rows_.kernel();
    const K* row[kTogether];
    for (int r = 0; r < count; ++r) {
      row[r] = labels_.empty() ? reader.row(first + r, r)
                               : reader.outward(first + r, labels_.subspan(static_cast<std::size_t>(m)),
                                                labels_[static_cast<std::size_t>(first + r)], r);
    }
    K* top = &pass_.rows.key[static_cast<std::size_t>(first)];
    const index_t found = kernel.survey(row, count, n, threshold_, cols.key.data(), hits.get(), top);
    for (int r = 0; r < count; ++r) {
      if (top[r] > threshold_) continue;
      pass_.rows.at[static_cast<std::size_t>(first + r)] = static_cast<std::uint32_t>(kernel.find(row[r], n, top[r]));
    }
    for (index_t h = 0; h < found; ++h) {
      const Hit& hit = hits[static_cast<std::size_t>(h)];
      const auto i = static_cast<std::uint32_t>(first) + hit.row;
      for (std::uint64_t lanes = hit.lanes; lanes != 0; lanes &= lanes - 1) {
        const std::uint32_t j = hit.first + static_cast<std::uint32_t>(std::countr_zero(lanes));
        const K key = magnitude<Rows::sign, K>(row[hit.row][j]);
        if (key > cols.key[j]) {
          cols.key[j] = key;
          cols.at[j] = i;
        }
        if (key > threshold_) kept.push_back({key, i, j});
      }
    }
  }

  // a worker's bands come in ascending order, so it holds its lowest row of a key; the lowest of all is taken
  void merge(const Best<K>& cols) {
    for (std::size_t j = 0; j < cols.key.size(); ++j) {
      K& key = pass_.cols.key[j];
      if (cols.key[j] > key || (cols.key[j] == key && key > 0 && cols.at[j] < pass_.cols.at[j])) {
        key = cols.key[j];
        pass_.cols.at[j] = cols.at[j];
      }
    }
  }

  const Rows& rows_;
  K threshold_;
  index_t expected_;
  std::span<const std::uint32_t> labels_;
  Pass<K> pass_;
};

}  // namespace netassay::graph
