/// Maximum spanning trees: every method against a literal Kruskal, how often a matrix is read, errors.

#include "netassay/graph/forest.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "check.hpp"
#include "graph/rows.hpp"
#include "graph/tree.hpp"

namespace {

using namespace netassay;
using graph::Edge;
using graph::StoredRows;

constexpr TreeMethod kMethods[] = {TreeMethod::automatic, TreeMethod::filter, TreeMethod::boruvka, TreeMethod::prim};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- matrices ----------------------------------------------------------------------------------------------------

enum class Kind { normal, ties, zeros, sparse, dead, constant, rank_one, blocks, joined_blocks, levels };
constexpr Kind kKinds[] = {Kind::normal,   Kind::ties,     Kind::zeros,  Kind::sparse,        Kind::dead,
                           Kind::constant, Kind::rank_one, Kind::blocks, Kind::joined_blocks, Kind::levels};

template <class T>
struct Matrix {
  index_t m, n;
  std::vector<T> values;

  Matrix(index_t rows, index_t cols) : m(rows), n(cols), values(static_cast<std::size_t>(rows * cols)) {}
  MatrixView<const T> view() const { return {values.data(), m, n}; }
  T& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i * n + j)]; }
};

float entry(Kind kind, index_t i, index_t j, index_t blocks, std::mt19937_64& bits) {
  std::normal_distribution<float> normal;
  const float x = normal(bits);
  const bool inside = i % blocks == j % blocks;
  switch (kind) {
    case Kind::normal:
      return x;
    case Kind::ties:
      return static_cast<float>(static_cast<int>(bits() % 15) - 7);
    case Kind::zeros:
      return bits() % 50 == 0 ? x : 0.0f;
    case Kind::sparse:
      return bits() % 1000 == 0 ? x : 0.0f;
    case Kind::dead:
      return i % 3 == 1 || j % 4 == 2 ? 0.0f : x;
    case Kind::constant:
      return -0.25f;
    case Kind::rank_one:
      return static_cast<float>(1 + i * 37 % 11) * static_cast<float>(1 + j * 53 % 13);
    case Kind::blocks:
      return inside ? x : 0.0f;
    case Kind::joined_blocks:
      return inside ? x : 1e-3f * x;
    case Kind::levels:  // rows and columns that join one by one
      return x * std::exp2(-static_cast<float>(i * 7 % 64 + j * 5 % 32) / 8);
  }
  return 0;
}

/// A block is some six rows or columns of the shorter side.
Matrix<float> make(Kind kind, index_t m, index_t n) {
  std::mt19937_64 bits(static_cast<unsigned>(1000 * m + n));
  Matrix<float> out(m, n);
  const index_t blocks = std::max<index_t>(2, std::min(m, n) / 6);
  for (index_t i = 0; i < m; ++i) {
    for (index_t j = 0; j < n; ++j) out(i, j) = entry(kind, i, j, blocks, bits);
  }
  return out;
}

template <class T>
T as(float x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(std::clamp(20 * x, std::is_signed_v<T> ? -128.0f : 0.0f, 127.0f));
  } else if constexpr (sizeof(T) >= 4) {
    return static_cast<T>(x);
  } else if constexpr (std::is_same_v<T, bf16>) {
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16)};
  } else {  // whatever bits, finite ones
    const auto raw = std::bit_cast<std::uint32_t>(x);
    if constexpr (sizeof(T) == 2) return {static_cast<std::uint16_t>(raw >> 16 & 0xbbffu)};
    if constexpr (sizeof(T) == 1) return {static_cast<std::uint8_t>(raw >> 24 & 0xbbu)};
  }
}

template <class T>
Matrix<T> cast(const Matrix<float>& x) {
  Matrix<T> out(x.m, x.n);
  std::transform(x.values.begin(), x.values.end(), out.values.begin(), as<T>);
  return out;
}

template <class T>
double magnitude_of(T x) {
  if constexpr (std::is_integral_v<T>) return std::abs(static_cast<double>(x));
  if constexpr (!std::is_integral_v<T>) return std::abs(static_cast<double>(widen(x)));
}

// ---- trees -------------------------------------------------------------------------------------------------------

/// Kruskal, literally: every edge by descending weight, and a label for each vertex.
template <class T>
std::vector<double> literal_tree(const MatrixView<const T>& w) {
  std::vector<std::pair<double, std::pair<index_t, index_t>>> edges;
  for (index_t i = 0; i < w.rows; ++i) {
    for (index_t j = 0; j < w.cols; ++j) edges.push_back({magnitude_of(w(i, j)), {i, j}});
  }
  std::sort(edges.begin(), edges.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<index_t> label(static_cast<std::size_t>(w.rows + w.cols));
  std::iota(label.begin(), label.end(), index_t{0});
  std::vector<double> tree;
  for (const auto& [weight, ends] : edges) {
    const index_t a = label[static_cast<std::size_t>(ends.first)];
    const index_t b = label[static_cast<std::size_t>(w.rows + ends.second)];
    if (a == b) continue;
    std::replace(label.begin(), label.end(), b, a);
    tree.push_back(weight);
  }
  return tree;
}

std::vector<double> weights(const std::vector<TreeEdge>& edges) {
  std::vector<double> out;
  for (const TreeEdge& edge : edges) out.push_back(edge.weight);
  return out;
}

/// The edges join all vertices, each has the weight of its entry, and the maxima are those of rows and columns.
template <class T>
void check_edges(const MatrixView<const T>& w, const SpanningTree& tree) {
  CHECK_EQUAL(static_cast<index_t>(tree.edges.size()), w.rows + w.cols - 1);
  graph::UnionFind joined(static_cast<std::size_t>(w.rows + w.cols));
  for (const TreeEdge& edge : tree.edges) {
    CHECK_EQUAL(edge.weight, magnitude_of(w(edge.row, edge.col)));
    CHECK(joined.join(edge.row, static_cast<std::uint32_t>(w.rows) + edge.col));
  }
  for (index_t i = 0; i < w.rows; ++i) {
    double most = 0;
    for (index_t j = 0; j < w.cols; ++j) most = std::max(most, magnitude_of(w(i, j)));
    CHECK_EQUAL(tree.row_max[static_cast<std::size_t>(i)], most);
  }
  for (index_t j = 0; j < w.cols; ++j) {
    double most = 0;
    for (index_t i = 0; i < w.rows; ++i) most = std::max(most, magnitude_of(w(i, j)));
    CHECK_EQUAL(tree.col_max[static_cast<std::size_t>(j)], most);
  }
}

template <class T>
void check_tree(const MatrixView<const T>& w) {
  const std::vector<double> expected = literal_tree(w);
  for (const TreeMethod method : kMethods) {
    const SpanningTree tree = maximum_spanning_tree(w, {1, {}}, method);
    CHECK(weights(tree.edges) == expected);
    check_edges(w, tree);
  }
  CHECK_EQUAL(largest_magnitude(w), expected.front());
}

bool same(const SpanningTree& a, const SpanningTree& b) {
  const auto equal = [](const TreeEdge& p, const TreeEdge& q) {
    return p.weight == q.weight && p.row == q.row && p.col == q.col;
  };
  return std::equal(a.edges.begin(), a.edges.end(), b.edges.begin(), b.edges.end(), equal) && a.row_max == b.row_max &&
         a.col_max == b.col_max;
}

/// Calls body.operator()<T>() for every format.
template <class Body>
void each_format(Body body) {
  body.template operator()<double>();
  body.template operator()<float>();
  body.template operator()<bf16>();
  body.template operator()<f16>();
  body.template operator()<f8e4m3>();
  body.template operator()<f8e5m2>();
  body.template operator()<std::int8_t>();
  body.template operator()<std::uint8_t>();
}

// ---- the claims --------------------------------------------------------------------------------------------------

void every_method() {
  for (const Kind kind : kKinds) {
    for (const auto& [m, n] :
         {std::pair<index_t, index_t>{1, 1}, {1, 7}, {5, 1}, {3, 4}, {17, 33}, {97, 5}, {64, 70}}) {
      check_tree(make(kind, m, n).view());
    }
    check_tree(make(kind, 150, 130).view());
  }
}

// A component joins by one edge at a time, even where two are tied: what they lead to may be joined by a larger one.
void ties_between_components() {
  constexpr index_t n = 300;
  Matrix<float> x(n, n);
  const auto part = [](index_t i) { return i < 40 ? 0 : i < 180 ? 1 : 2; };
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j) {
      if (part(i) == part(j)) x(i, j) = part(i) == 0 ? 1.0f : 10.0f;
      if ((part(i) == 0 && part(j) == 1) || (part(i) == 2 && part(j) == 0)) x(i, j) = 1;
    }
  }
  x(100, 200) = 2;
  check_tree(x.view());
  check_tree(MatrixView<const float>(x.values.data(), n, n, 1, n));
}

void every_format() {
  each_format([]<class T>() {
    for (const Kind kind : kKinds) {
      check_tree(cast<T>(make(kind, 65, 80)).view());
      check_tree(cast<T>(make(kind, 3, 70)).view());
    }
  });
}

void any_strides() {
  each_format([]<class T>() {
    const Matrix<T> x = cast<T>(make(Kind::normal, 70, 90));
    const SpanningTree expected = maximum_spanning_tree(x.view(), {1, {}});
    const T* const data = x.values.data();
    const MatrixView<const T> turned(data, 90, 70, 1, 90);
    SpanningTree transposed = maximum_spanning_tree(turned, {1, {}});
    check_edges(turned, transposed);
    CHECK(weights(transposed.edges) == weights(expected.edges));
    CHECK(transposed.row_max == expected.col_max && transposed.col_max == expected.row_max);
    Matrix<T> wide(140, 270);
    for (index_t i = 0; i < 70; ++i) {
      for (index_t j = 0; j < 90; ++j) wide(2 * i, 3 * j) = data[i * 90 + j];
    }
    CHECK(same(maximum_spanning_tree(MatrixView<const T>(wide.values.data(), 70, 90, 2 * 270, 3), {1, {}}), expected));
    const MatrixView<const T> backward(data + 70 * 90 - 1, 70, 90, -90, -1);
    check_tree(backward);
    CHECK_EQUAL(largest_magnitude(backward), expected.edges.front().weight);
    CHECK_EQUAL(largest_magnitude(turned), expected.edges.front().weight);
    check_tree(MatrixView<const T>(data, 80, 70, 0, 1));  // one row, eighty times
  });
}

void threads_change_no_bit() {
  for (const Kind kind : kKinds) {
    for (const auto& [m, n] : {std::pair<index_t, index_t>{700, 900}, {5, 70'000}, {9'000, 70}}) {
      const Matrix<float> x = make(kind, m, n);
      for (const TreeMethod method : {TreeMethod::filter, TreeMethod::boruvka}) {
        const SpanningTree one = maximum_spanning_tree(x.view(), {1, {}}, method);
        for (const int threads : {2, 3, 7}) {
          CHECK(same(maximum_spanning_tree(x.view(), {threads, {}}, method), one));
        }
      }
    }
  }
}

/// Rows that count how often one is asked for.
class Counted : public StoredRows<float> {
 public:
  explicit Counted(const Matrix<float>& x) : StoredRows<float>(x.view()) {}
  const Key* row(index_t i, Key* scratch) const {
    ++asked;
    return StoredRows<float>::row(i, scratch);
  }
  mutable std::atomic<index_t> asked = 0;
};

/// Rows asked for, of each row once.
double reads(const Matrix<float>& x, TreeMethod method) {
  const Counted rows(x);
  const auto spanned = graph::span_rows(rows, {2, {}}, method, [](const auto&) {});
  const SpanningTree expected = maximum_spanning_tree(x.view(), {1, {}}, TreeMethod::prim);
  std::vector<double> got;
  for (const Edge& e : spanned.tree) got.push_back(Counted::value(e.key));
  CHECK(got == weights(expected.edges));
  return static_cast<double>(rows.asked) / static_cast<double>(x.m);
}

// A read is one more where half of the components join in it, so log2(m + n) of them are the most.
void how_often_it_is_read() {
  constexpr index_t m = 700, n = 800;
  for (const Kind kind : kKinds) {
    const double count = reads(make(kind, m, n), TreeMethod::filter);
    CHECK(count >= 1);
    CHECK(count <= 1 + std::log2(m + n));
    if (kind == Kind::normal || kind == Kind::constant || kind == Kind::ties) CHECK(count <= 1.1);
    // blocks hang together from the first reading on; another one finds what joins them
    if (kind == Kind::joined_blocks) CHECK(count >= 2 && count <= 5);
  }
  Matrix<float> two = make(Kind::normal, m, n);
  for (index_t i = 0; i < m; ++i) {
    for (index_t j = 0; j < n; ++j) two(i, j) *= (i < m / 2) == (j < n / 2) ? 1.0f : 1e-3f;
  }
  const double count = reads(two, TreeMethod::filter);
  CHECK(count >= 1.4 && count <= 4);
}

void what_the_filter_keeps() {
  constexpr index_t m = 700, n = 800;
  constexpr double expected = 0.5 * 7.3 * 800;  // half of max(m, n) ln(m + n)
  const auto kept = [](const Matrix<float>& x) {
    const StoredRows<float> rows(x.view());
    const auto [threshold, room] = graph::filter(rows);
    const auto pass = graph::Reading(rows, threshold, room, {}).run({1, {}});
    std::size_t count = 0;
    for (const auto& band : pass.above) {
      count += band.size();
      for (const Edge& e : band) CHECK(e.key > threshold && e.key == rows.key(e.row, e.col));
    }
    return static_cast<double>(count);
  };
  for (const Kind kind : {Kind::normal, Kind::joined_blocks, Kind::levels, Kind::dead}) {
    const double count = kept(make(kind, m, n));
    CHECK(count > 0.5 * expected && count < 1.5 * expected);
  }
  // where a value is heavily tied, edges of that value do not all pass
  CHECK_EQUAL(kept(make(Kind::constant, m, n)), 0.0);
  CHECK(kept(make(Kind::sparse, m, n)) < 1000);
  CHECK(kept(make(Kind::ties, m, n)) < 0.1 * m * n);
  CHECK(kept(make(Kind::zeros, m, n)) < 0.03 * m * n);
  const Matrix<float> skinny = make(Kind::normal, 20, 3000);
  CHECK_EQUAL(graph::filter(StoredRows<float>(skinny.view())).threshold, graph::kNoEdges<std::uint32_t>);
}

// The largest edge that leaves each vertex's component, by a reading with labels.
void check_labelled(const Matrix<float>& x) {
  const auto m = static_cast<std::uint32_t>(x.m), n = static_cast<std::uint32_t>(x.n);
  const StoredRows<float> rows(x.view());
  std::vector<std::uint32_t> labels(m + n);
  for (std::size_t v = 0; v < labels.size(); ++v) labels[v] = static_cast<std::uint32_t>(v * v % 5);
  std::vector<std::uint32_t> row_most(m), col_most(n), lowest(n);
  for (std::uint32_t i = 0; i < m; ++i) {
    for (std::uint32_t j = 0; j < n; ++j) {
      const std::uint32_t key = labels[i] == labels[m + j] ? 0 : rows.key(i, j);
      row_most[i] = std::max(row_most[i], key);
      if (key > col_most[j]) lowest[j] = i;
      col_most[j] = std::max(col_most[j], key);
    }
  }
  for (const int threads : {1, 3}) {
    const auto pass = graph::Reading(rows, graph::kNoEdges<std::uint32_t>, 0, labels).run({threads, {}});
    CHECK(pass.rows.key == row_most);
    CHECK(pass.cols.key == col_most);
    CHECK(pass.cols.at == lowest);
    for (std::uint32_t i = 0; i < m; ++i) {
      const std::uint32_t j = pass.rows.at[i];
      if (row_most[i] == 0) continue;
      CHECK_EQUAL(rows.key(i, j), row_most[i]);
      CHECK(labels[i] != labels[m + j]);
    }
  }
}

void labelled_readings() {
  for (const Kind kind : {Kind::normal, Kind::ties, Kind::zeros, Kind::constant}) {
    check_labelled(make(kind, 90, 110));
    check_labelled(make(kind, 40'000, 33));  // bands for every thread
  }
}

void sorting() {
  std::mt19937_64 bits(1);
  for (const int width : {0, 1, 11, 12, 31, 32, 33, 63, 64}) {
    for (const std::size_t count : {0u, 1u, 2u, 100u, 5000u}) {
      std::vector<std::vector<Edge>> parts(3);
      std::vector<Edge> expected;
      for (std::uint32_t k = 0; k < count; ++k) {
        const std::uint64_t key = width == 0 ? 7 : bits() >> (64 - width) << (width < 20 ? 40 : 0);
        parts[k * 3 / count].push_back({key, k, 0});
      }
      for (const auto& part : parts) expected.insert(expected.end(), part.begin(), part.end());
      // rows ascend: edges of one key stay in their order
      std::sort(expected.begin(), expected.end(),
                [](const Edge& a, const Edge& b) { return a.key != b.key ? a.key > b.key : a.row < b.row; });
      const std::vector<Edge> got = graph::sort_descending(parts);
      const auto equal = [](const Edge& a, const Edge& b) { return a.key == b.key && a.row == b.row; };
      CHECK(std::equal(got.begin(), got.end(), expected.begin(), expected.end(), equal));
    }
  }
}

void joining() {
  constexpr std::uint32_t n = 300;
  std::mt19937_64 bits(2);
  graph::UnionFind joined(n);
  std::vector<std::uint32_t> label(n);
  std::iota(label.begin(), label.end(), 0u);
  for (int k = 0; k < 2000; ++k) {
    const auto a = static_cast<std::uint32_t>(bits() % n), b = static_cast<std::uint32_t>(bits() % n);
    const bool apart = label[a] != label[b];
    CHECK_EQUAL(joined.join(a, b), apart);
    const auto [low, high] = std::minmax(label[a], label[b]);
    std::replace(label.begin(), label.end(), std::uint32_t{high}, std::uint32_t{low});
    CHECK_EQUAL(joined.find(a), low);
  }
}

void errors() {
  const float one = 1;
  for (const auto& [m, n] : {std::pair<index_t, index_t>{0, 3}, {3, 0}, {0, 0}, {index_t{1} << 32, 1}, {7, 1l << 40}}) {
    const MatrixView<const float> w(&one, m, n, 0, 0);
    CHECK_THROWS(maximum_spanning_tree(w), ShapeError, "maximum_spanning_tree: got a matrix of ");
    CHECK_THROWS(largest_magnitude(w), ShapeError, "expected 1 to 2^32 rows and columns");
  }
  for (const auto& [m, n] : {std::pair<index_t, index_t>{1, 1}, {9, 7}, {300, 200}}) {
    for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
      Matrix<float> x = make(Kind::normal, m, n);
      x(m - 1, n / 2) = bad;
      const std::string place =
          "[" + std::to_string(m - 1) + ", " + std::to_string(n / 2) + "], expected finite weights";
      for (const TreeMethod method : kMethods) {
        CHECK_THROWS(maximum_spanning_tree(x.view(), {2, {}}, method), NonFinite,
                     "maximum_spanning_tree: got NaN or infinity at " + place);
      }
      CHECK_THROWS(largest_magnitude(x.view()), NonFinite, "largest_magnitude: got NaN or infinity at " + place);
      const MatrixView<const float> turned(x.values.data(), n, m, 1, n);
      const std::string other = "[" + std::to_string(n / 2) + ", " + std::to_string(m - 1) + "]";
      CHECK_THROWS(maximum_spanning_tree(turned), NonFinite, other);
      CHECK_THROWS(largest_magnitude(turned), NonFinite, other);
    }
  }
  Matrix<float> x(4, 5);
  x(2, 1) = kNaN;
  x(2, 4) = x(3, 0) = kInfinity;
  CHECK_THROWS(maximum_spanning_tree(x.view()), NonFinite, "[2, 1]");
}

void interruption() {
  struct Stop : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  const Matrix<float> row = make(Kind::normal, 1, 900);
  const MatrixView<const float> x(row.values.data(), 3'000'000, 900, 0, 1);  // so long that every thread takes part
  for (const int threads : {1, 2}) {
    const Execution execution{threads, [] { throw Stop("stopped"); }};
    CHECK_THROWS(maximum_spanning_tree(x, execution), Stop, "stopped");
    CHECK_THROWS(largest_magnitude(x, execution), Stop, "stopped");
  }
  int polls = 0;
  maximum_spanning_tree(make(Kind::normal, 1200, 900).view(), {1, [&polls] { ++polls; }});
  CHECK(polls >= 4);  // each 2^18 weights
}

}  // namespace

int main() {
  return check::run({
      {"edges are sorted by descending key, equal ones in their order", sorting},
      {"a component is named by its lowest vertex", joining},
      {"a labelled reading finds what leaves each component, the lowest row of equals", labelled_readings},
      {"every method finds the tree of a literal Kruskal", every_method},
      {"a component that is tied to two others joins one of them", ties_between_components},
      {"every format has the tree of its values", every_format},
      {"any strides give the tree of the copy, rows and columns the right way round", any_strides},
      {"any number of threads gives the same edges, bit for bit", threads_change_no_bit},
      {"a matrix is read once, and again only where it hangs together in blocks", how_often_it_is_read},
      {"the filter keeps about as many edges as it says, and never all of a value", what_the_filter_keeps},
      {"no rows, too many, and what is not finite are refused by name and place", errors},
      {"what the poll throws comes out", interruption},
  });
}
