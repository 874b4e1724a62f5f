#pragma once
/// The maximum spanning tree over any source of rows; see netassay/graph/forest.hpp for the idea.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "graph/pass.hpp"
#include "graph/union_find.hpp"
#include "netassay/graph/forest.hpp"

namespace netassay::graph {

/// The tree as it grows. Vertices: rows 0 ... m-1, then columns.
template <class Rows>
class Growth {
 public:
  using K = typename Rows::Key;

  /// first: what reading all edges gave.
  Growth(const Rows& rows, const Pass<K>& first, const Execution& execution)
      : rows_(rows),
        first_(first),
        execution_(execution),
        m_(static_cast<std::uint32_t>(rows.rows())),
        n_(static_cast<std::uint32_t>(rows.cols())),
        joined_(std::size_t{m_} + n_) {
    tree_.reserve(std::size_t{m_} + n_ - 1);
  }

  bool whole() const { return tree_.size() + 1 == std::size_t{m_} + n_; }

  void add(const Edge& e) {
    if (joined_.join(e.row, m_ + e.col)) tree_.push_back(e);
  }

  /// Kruskal: the forest of the edges above a threshold.
  void add_all(const std::vector<std::vector<Edge>>& edges) {
    for (const Edge& e : sort_descending(edges)) {
      if (whole()) return;
      add(e);
    }
  }

  /// The largest edge of every vertex that has none above the threshold.
  void add_best(K threshold) {
    const auto& [rows, cols, above] = first_;
    for (std::uint32_t i = 0; i < m_; ++i) {
      if (rows.key[i] <= threshold) add({rows.key[i], i, rows.at[i]});
    }
    for (std::uint32_t j = 0; j < n_; ++j) {
      if (cols.key[j] <= threshold) add({cols.key[j], cols.at[j], j});
    }
  }

  /// Joins what is still apart, each component by its largest edge that leaves it, until nothing is.
  void finish() {
    while (!whole()) {
      const Parts parts = apart();
      std::vector<Edge> best(parts.count, Edge{0, 0, 0});
      if (probe(parts)) continue;
      if (worth_a_read(parts)) {
        read_everything(parts, best);
      } else {
        read_small(parts, best);
      }
      for (std::uint32_t c = 0; c < parts.count; ++c) {
        if (c == parts.giant && best[c].key == 0) continue;
        if (best[c].key > 0) {
          add(best[c]);
        } else {
          add_zero(parts, c);
        }
      }
    }
  }

  std::vector<Edge> take() { return sort_descending({std::move(tree_)}); }

 private:
  /// Components by number, and the vertices outside the largest of them.
  struct Parts {
    std::uint32_t count = 0, giant = 0;
    std::vector<std::uint32_t> label;  // of each vertex
    std::vector<std::uint32_t> rows, cols;
  };

  Parts apart() {
    Parts parts;
    const std::uint32_t vertices = m_ + n_;
    constexpr std::uint32_t kNone = ~0u;
    std::vector<std::uint32_t> number(vertices, kNone), size;
    parts.label.resize(vertices);
    for (std::uint32_t v = 0; v < vertices; ++v) {
      std::uint32_t& mine = number[joined_.find(v)];
      if (mine == kNone) {
        mine = parts.count++;
        size.push_back(0);
      }
      parts.label[v] = mine;
      ++size[mine];
    }
    parts.giant = static_cast<std::uint32_t>(std::max_element(size.begin(), size.end()) - size.begin());
    for (std::uint32_t v = 0; v < vertices; ++v) {
      if (parts.label[v] == parts.giant) continue;
      if (v < m_) {
        parts.rows.push_back(v);
      } else {
        parts.cols.push_back(v - m_);
      }
    }
    return parts;
  }

  /// A column is read across rows, an element a cache line.
  static constexpr std::size_t kAcross = 8;

  bool worth_a_read(const Parts& parts) const {
    return parts.rows.size() * n_ + kAcross * parts.cols.size() * m_ > std::size_t{m_} * n_;
  }

  /// No edge that leaves a component is larger than the largest edge of its vertices. Where a vertex that has this one
  /// has another as large that leaves (ties), that joins without reading more. One edge for each component and round: a
  /// second one might pass over a larger edge between the two that they lead to. Whether anything was joined.
  bool probe(const Parts& parts) {
    constexpr std::size_t kShare = 8;
    if (kShare * parts.count * (n_ + kAcross * m_) > std::size_t{m_} * n_) return false;
    const Leaders row(parts.count, std::span(parts.label).first(m_), first_.rows.key);
    const Leaders col(parts.count, std::span(parts.label).subspan(m_), first_.cols.key);
    const std::size_t before = tree_.size();
    RowReader<Rows> reader(rows_);
    for (std::uint32_t c = 0; c < parts.count; ++c) {
      const K bound = std::max(row.key[c], col.key[c]);
      if (c == parts.giant || bound == 0) continue;
      if (row.key[c] == bound) {
        const K* outward = reader.outward(row.at[c], std::span(parts.label).subspan(m_), c);
        const auto j = static_cast<std::uint32_t>(rows_.kernel().find(outward, n_, bound));
        if (j < n_) {
          add({bound, row.at[c], j});
          continue;
        }
      }
      if (col.key[c] == bound) {
        std::uint32_t i = 0;
        while (i < m_ && (parts.label[i] == c || rows_.key(i, col.at[c]) != bound)) ++i;
        if (i < m_) add({bound, i, col.at[c]});
      }
    }
    return tree_.size() > before;
  }

  /// The vertex of one side that has the largest edge, of each component; key zero where there is none.
  struct Leaders : Best<K> {
    Leaders(std::uint32_t parts, std::span<const std::uint32_t> label, const std::vector<K>& keys) : Best<K>(parts) {
      for (std::uint32_t v = 0; v < label.size(); ++v) {
        if (keys[v] <= this->key[label[v]]) continue;
        this->key[label[v]] = keys[v];
        this->at[label[v]] = v;
      }
    }
  };

  static void improve(Edge& best, const Edge& e) {
    if (e.key > best.key) best = e;
  }

  void read_everything(const Parts& parts, std::vector<Edge>& best) {
    const Pass<K> pass = Reading<Rows>(rows_, kNoEdges<K>, 0, parts.label).run(execution_);
    for (std::uint32_t i = 0; i < m_; ++i) improve(best[parts.label[i]], {pass.rows.key[i], i, pass.rows.at[i]});
    for (std::uint32_t j = 0; j < n_; ++j) improve(best[parts.label[m_ + j]], {pass.cols.key[j], pass.cols.at[j], j});
  }

  void read_small(const Parts& parts, std::vector<Edge>& best) {
    RowReader<Rows> reader(rows_);
    const std::span<const std::uint32_t> column_labels = std::span(parts.label).subspan(m_);
    for (const std::uint32_t i : parts.rows) {
      const K* row = reader.outward(i, column_labels, parts.label[i]);
      const K key = rows_.kernel().largest(row, n_);
      improve(best[parts.label[i]], {key, i, static_cast<std::uint32_t>(rows_.kernel().find(row, n_, key))});
    }
    if (parts.cols.empty()) return;
    for (std::uint32_t i = 0; i < m_; ++i) {
      for (const std::uint32_t j : parts.cols) {
        const std::uint32_t own = parts.label[m_ + j];
        if (parts.label[i] != own) improve(best[own], {rows_.key(i, j), i, j});
      }
    }
  }

  /// Every edge that leaves component c weighs zero: any will do.
  void add_zero(const Parts& parts, std::uint32_t c) {
    const auto begin = parts.label.begin(), columns = begin + m_, end = parts.label.end();
    const auto inside = [c](std::uint32_t label) { return label == c; };
    const auto row = std::find_if(begin, columns, inside), other_col = std::find_if_not(columns, end, inside);
    if (row != columns && other_col != end) {
      return add({0, static_cast<std::uint32_t>(row - begin), static_cast<std::uint32_t>(other_col - columns)});
    }
    const auto col = std::find_if(columns, end, inside), other_row = std::find_if_not(begin, columns, inside);
    add({0, static_cast<std::uint32_t>(other_row - begin), static_cast<std::uint32_t>(col - columns)});
  }

  const Rows& rows_;
  const Pass<K>& first_;
  const Execution& execution_;
  std::uint32_t m_, n_;
  UnionFind joined_;
  std::vector<Edge> tree_;
};

/// Which edges are kept in the first reading, and about how many they are.
template <class K>
struct Filter {
  K threshold = kNoEdges<K>;
  index_t expected = 0;
};

/// A threshold above which about c ln(m + n) edges a vertex of the longer side lie, as a sample tells; none where that
/// would be many of all edges.
template <class Rows>
Filter<typename Rows::Key> filter(const Rows& rows) {
  using K = typename Rows::Key;
  constexpr double kConnected = 0.5;  // of ln(m + n): nearly everything hangs together, and the rest joins by its best
  constexpr double kTooMany = 0.1;    // of all edges: reading again is cheaper than sorting them
  constexpr std::uint64_t kMost = 1 << 14, kRun = 16;
  const auto m = static_cast<std::uint64_t>(rows.rows()), n = static_cast<std::uint64_t>(rows.cols());
  const double share = kConnected * std::log(static_cast<double>(m + n)) / static_cast<double>(std::min(m, n));
  if (share > kTooMany) return {};

  std::vector<K> sample;
  const std::uint64_t size = std::min(kMost, m * n / 32);
  sample.reserve(size + kRun);
  const std::uint64_t run = std::min(n, kRun);
  std::uint64_t state = 0;  // a fixed sequence: splitmix64
  const auto below = [&state](std::uint64_t bound) {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
  };
  while (sample.size() < size) {
    const std::uint64_t i = below(m), first = below(n - run + 1);
    for (std::uint64_t j = first; j < first + run; ++j) {
      sample.push_back(rows.key(static_cast<index_t>(i), static_cast<index_t>(j)));
    }
  }
  const auto wanted =
      std::max<std::ptrdiff_t>(1, static_cast<std::ptrdiff_t>(share * static_cast<double>(sample.size())));
  std::nth_element(sample.begin(), sample.begin() + wanted, sample.end(), std::greater<>());
  const K at = sample[static_cast<std::size_t>(wanted)];
  // strictly above, unless few are tied there: of a heavily tied value all or nothing would pass
  const auto reached = std::count_if(sample.begin(), sample.end(), [at](K k) { return k >= at; });
  constexpr std::ptrdiff_t kFewTied = 4;
  constexpr double kSlack = 1.25;
  return {at > 0 && reached <= kFewTied * wanted ? static_cast<K>(at - 1) : at,
          static_cast<index_t>(kSlack * share * static_cast<double>(m * n))};
}

/// Prim, on copies of the keys both ways round: m + n steps over m + n vertices.
template <class Rows>
std::vector<Edge> prim(const Rows& rows) {
  using Signed = std::conditional_t<sizeof(typename Rows::Key) == 8, std::int64_t, std::int32_t>;
  const auto m = static_cast<std::size_t>(rows.rows()), n = static_cast<std::size_t>(rows.cols());
  std::vector<Signed> by_row(m * n), by_col(m * n);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const auto key = static_cast<Signed>(rows.key(static_cast<index_t>(i), static_cast<index_t>(j)));
      by_row[i * n + j] = by_col[j * m + i] = key;
    }
  }
  // near[v]: the largest edge between v and the tree, -1 where there is none or v is in it; closed[v]: -1 in it, else 0
  std::vector<Signed> near(m + n, -1), closed(m + n, 0);
  std::vector<std::uint32_t> from(m + n, 0);
  const auto enter = [&](std::size_t v) {
    near[v] = closed[v] = -1;
    const bool is_row = v < m;
    const Signed* keys = is_row ? &by_row[v * n] : &by_col[(v - m) * m];
    const std::size_t first = is_row ? m : 0, count = is_row ? n : m;
    for (std::size_t k = 0; k < count; ++k) {
      const Signed key = keys[k] | closed[first + k];
      from[first + k] = key > near[first + k] ? static_cast<std::uint32_t>(v) : from[first + k];
      near[first + k] = std::max(near[first + k], key);
    }
  };
  std::vector<Edge> tree;
  tree.reserve(m + n - 1);
  enter(0);
  while (tree.size() + 1 < m + n) {
    const Signed most = *std::max_element(near.begin(), near.end());
    const auto v = static_cast<std::size_t>(std::find(near.begin(), near.end(), most) - near.begin());
    const auto row = v < m ? v : from[v], col = v < m ? from[v] : v;
    tree.push_back(
        {static_cast<std::uint64_t>(most), static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(col - m)});
    enter(v);
  }
  return sort_descending({tree});
}

inline bool small(index_t m, index_t n) { return m + n <= 256; }

/// Every vertex's best edge, and the tree.
template <class Rows>
struct Spanned {
  Pass<typename Rows::Key> pass;
  std::vector<Edge> tree;
};

/// Calls check(pass) after the first read, before anything is built on it.
template <class Rows, class Check>
Spanned<Rows> span_rows(const Rows& rows, const Execution& execution, TreeMethod method, Check&& check) {
  using K = typename Rows::Key;
  if (method == TreeMethod::automatic) method = small(rows.rows(), rows.cols()) ? TreeMethod::prim : TreeMethod::filter;
  const auto [threshold, expected] = method == TreeMethod::filter ? filter(rows) : Filter<K>{};
  Spanned<Rows> out{Reading<Rows>(rows, threshold, expected, {}).run(execution), {}};
  check(out.pass);
  if (method == TreeMethod::prim) {
    out.tree = prim(rows);
    return out;
  }
  Growth<Rows> growth(rows, out.pass, execution);
  growth.add_all(out.pass.above);
  growth.add_best(threshold);
  growth.finish();
  out.tree = growth.take();
  return out;
}

}  // namespace netassay::graph
