/// Path sums and cuts against the enumeration of all paths and of all sets of nodes; big naturals; errors.
///
/// Tolerance of log2 sums: each of at most 20 nodes on a path adds a few units in the last place of at most 40 bits,
/// 20 x 4 x 40 x 2^-53 < 1e-12. Gains of max, min and counts are small integers: exact.

#include "netassay/graph/dag.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"

namespace {

using namespace netassay;
using Indices = std::vector<std::int64_t>;
using Path = std::vector<std::size_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kTolerance = 1e-12;

struct Graph {
  index_t nodes;
  Indices from, to;
  Indices sources;
  Dag dag() const { return Dag(nodes, from, to); }
};

/// Edges go up in a hidden order of the nodes; one to three sources, which edges may enter.
Graph random_graph(std::mt19937_64& bits) {
  Graph out{static_cast<index_t>(2 + bits() % 7), {}, {}, {}};
  Indices name(static_cast<std::size_t>(out.nodes));
  std::iota(name.begin(), name.end(), 0);
  std::shuffle(name.begin(), name.end(), bits);
  const std::size_t edges = bits() % 14;
  for (std::size_t e = 0; e < edges; ++e) {
    const auto a = bits() % name.size(), b = bits() % name.size();
    if (a == b) continue;
    out.from.push_back(name[std::min(a, b)]);
    out.to.push_back(name[std::max(a, b)]);
  }
  for (std::size_t k = 0; k <= bits() % 3; ++k) out.sources.push_back(name[bits() % name.size()]);
  return out;
}

/// All paths from a source to the node, as indices of edges.
std::vector<Path> paths(const Graph& graph, std::int64_t node) {
  std::vector<Path> out;
  if (std::count(graph.sources.begin(), graph.sources.end(), node) > 0) out.emplace_back();
  for (std::size_t e = 0; e < graph.to.size(); ++e) {
    if (graph.to[e] != node) continue;
    for (Path path : paths(graph, graph.from[e])) {
      path.push_back(e);
      out.push_back(path);
    }
  }
  return out;
}

double log2_sum(const std::vector<Path>& all, const std::vector<double>& gains) {
  double sum = 0;
  for (const Path& path : all) {
    double along = 0;
    for (const std::size_t e : path) along += gains[e];
    sum += std::exp2(along);
  }
  return std::log2(sum);
}

std::vector<double> integers(std::size_t count, std::mt19937_64& bits) {
  std::vector<double> out(count);
  for (double& x : out) x = static_cast<double>(bits() % 7) - 3;
  return out;
}

// ---- semirings ---------------------------------------------------------------------------------------------------

void scalar_semirings() {
  std::mt19937_64 bits(1);
  for (int round = 0; round < 500; ++round) {
    const Graph graph = random_graph(bits);
    const std::vector<double> gains = integers(graph.from.size(), bits);
    const Dag dag = graph.dag();
    const auto log2 = log2_path_sums(dag, gains, graph.sources), longest = longest_paths(dag, gains, graph.sources),
               shortest = shortest_paths(dag, gains, graph.sources), widest = widest_paths(dag, gains, graph.sources);
    for (std::size_t v = 0; v < log2.size(); ++v) {
      const std::vector<Path> all = paths(graph, static_cast<std::int64_t>(v));
      double most = -kInfinity, least = kInfinity, wide = -kInfinity;
      for (const Path& path : all) {
        double sum = 0, narrow = kInfinity;
        for (const std::size_t e : path) {
          sum += gains[e];
          narrow = std::min(narrow, gains[e]);
        }
        most = std::max(most, sum);
        least = std::min(least, sum);
        wide = std::max(wide, narrow);
      }
      CHECK_EQUAL(longest[v], most);
      CHECK_EQUAL(shortest[v], least);
      CHECK_EQUAL(widest[v], wide);
      if (all.empty()) CHECK_EQUAL(log2[v], -kInfinity);
      if (!all.empty()) CHECK_NEAR(log2[v], log2_sum(all, gains), kTolerance);
    }
  }
}

void exact_semirings() {
  std::mt19937_64 bits(2);
  for (int round = 0; round < 500; ++round) {
    const Graph graph = random_graph(bits);
    std::vector<std::uint64_t> times(graph.from.size());
    std::vector<std::uint32_t> lengths(graph.from.size());
    for (auto& x : times) x = bits() % 4;
    for (auto& x : lengths) x = static_cast<std::uint32_t>(bits() % 3);
    Indices targets(static_cast<std::size_t>(graph.nodes));
    std::iota(targets.begin(), targets.end(), 0);
    std::shuffle(targets.begin(), targets.end(), bits);
    targets.resize(bits() % (targets.size() + 1));
    if (!targets.empty()) targets.push_back(targets.front());  // asked for twice
    const Dag dag = graph.dag();
    const auto counts = path_counts(dag, times, graph.sources, targets);
    const auto every = path_counts(dag, times, graph.sources);
    const auto histograms = path_lengths(dag, lengths, graph.sources, targets);
    CHECK_EQUAL(counts.size(), targets.size());
    CHECK_EQUAL(histograms.size(), targets.size());
    for (std::size_t k = 0; k < targets.size(); ++k) {
      std::uint64_t count = 0;
      std::vector<Natural> expected;
      for (const Path& path : paths(graph, targets[k])) {
        std::uint64_t product = 1;
        std::size_t length = 0;
        for (const std::size_t e : path) {
          product *= times[e];
          length += lengths[e];
        }
        count += product;
        if (expected.size() <= length) expected.resize(length + 1);
        expected[length] += Natural(1);
      }
      CHECK(counts[k] == Natural(count));
      CHECK(every[static_cast<std::size_t>(targets[k])] == Natural(count));
      CHECK(histograms[k] == expected);
    }
  }
}

void products() {
  // 0 -> 1, 2; product 3 of 1, 2 and of 4, which nothing reaches; sum 5 of 3 and 4
  const Indices from{0, 0, 1, 2, 4, 3, 4}, to{1, 2, 3, 3, 3, 5, 5}, source{0}, times{3}, end{5};
  const std::vector<double> gains{3, 4, 0.5, 0.25, 9, 1, 2};
  const Dag dag(6, from, to);
  const auto t = log2_path_sums(dag, gains, source, times);
  CHECK_EQUAL(t[3], 7.75);
  CHECK_EQUAL(t[4], -kInfinity);
  CHECK_EQUAL(t[5], 8.75);
  CHECK((path_shares(dag, gains, source, times, end) == std::vector<double>{1, 1, 1, 1, 0, 1, 0}));
  // nothing reaches a product of nothing
  const Indices alone{4}, other{2};
  CHECK_EQUAL(log2_path_sums(dag, gains, alone, other)[2], -kInfinity);
  // a source that multiplies: one plus what arrives, 1 + 2^7.75
  const Indices both{0, 3};
  CHECK_NEAR(log2_path_sums(dag, gains, both, times)[3], std::log2(1 + std::exp2(7.75)), kTolerance);
  const double share = 1 / (1 + std::exp2(-7.75));
  for (std::size_t e = 0; e < 4; ++e) CHECK_NEAR(path_shares(dag, gains, both, times, end)[e], share, kTolerance);
  // an edge of gain zero is as good as none
  std::vector<double> cut = gains;
  cut[2] = -kInfinity;
  CHECK_EQUAL(log2_path_sums(dag, cut, source, times)[3], 4.25);
}

/// log2 of the sum over the targets, each once.
double total(const Dag& dag, const std::vector<double>& gains, const Graph& graph, const Indices& products,
             const Indices& targets) {
  const auto t = log2_path_sums(dag, gains, graph.sources, products);
  double sum = 0;
  for (std::size_t v = 0; v < t.size(); ++v) {
    if (std::count(targets.begin(), targets.end(), static_cast<std::int64_t>(v)) > 0) sum += std::exp2(t[v]);
  }
  return std::log2(sum);
}

// A central difference of step h = 2^-14: h^2 times a third derivative (of products of at most 2^13 paths, some tens),
// and rounding 2^-40 / h.
void gradients() {
  constexpr double h = 0x1p-14;
  std::mt19937_64 bits(3);
  for (int round = 0; round < 300; ++round) {
    const Graph graph = random_graph(bits);
    std::vector<double> gains = integers(graph.from.size(), bits);
    const Dag dag = graph.dag();
    Indices times, targets;
    for (index_t v = 0; v < graph.nodes; ++v) {
      if (bits() % 3 == 0) times.push_back(v);
      if (bits() % 2 == 0) targets.push_back(v);
    }
    if (!targets.empty()) targets.push_back(targets.front());
    const auto shares = path_shares(dag, gains, graph.sources, times, targets);
    const bool none = total(dag, gains, graph, times, targets) == -kInfinity;
    for (std::size_t e = 0; e < gains.size(); ++e) {
      const double before = gains[e];
      gains[e] = before + h;
      const double up = total(dag, gains, graph, times, targets);
      gains[e] = before - h;
      const double down = total(dag, gains, graph, times, targets);
      gains[e] = before;
      CHECK_NEAR(shares[e], none ? 0 : (up - down) / (2 * h), 1e-6);
    }
  }
}

// A ladder of `steps` pairs of parallel edges of 1e5 bits each: nothing overflows, and shares neither grow nor fade.
void deep_and_large() {
  constexpr std::size_t steps = 1'000'000;
  Indices from, to, end{static_cast<std::int64_t>(steps)};
  for (std::size_t k = 0; k < steps; ++k) {
    for (int twice = 0; twice < 2; ++twice) {
      from.push_back(static_cast<std::int64_t>(k));
      to.push_back(static_cast<std::int64_t>(k + 1));
    }
  }
  const Dag dag(steps + 1, from, to);
  const std::vector<double> gains(from.size(), 1e5);
  CHECK_EQUAL(log2_path_sums(dag, gains).back(), (1e5 + 1) * steps);
  for (const double share : path_shares(dag, gains)) CHECK_EQUAL(share, 0.5);
  CHECK_EQUAL(longest_paths(dag, gains).back(), 1e5 * steps);
  const std::vector<std::uint32_t> lengths(steps * 2, 1);
  Indices chain_from(from.size() / 2), chain_to(chain_from.size());
  for (std::size_t k = 0; k < steps; ++k) {  // downwards, so that the order is sought
    chain_from[k] = static_cast<std::int64_t>(steps - k);
    chain_to[k] = static_cast<std::int64_t>(steps - k - 1);
  }
  const Dag chain(steps + 1, chain_from, chain_to);
  const auto histogram = path_lengths(chain, std::span(lengths).first(steps)).front();
  CHECK_EQUAL(histogram.size(), steps + 1);
  CHECK(histogram.back() == Natural(1) && histogram.front().zero());
  const Indices ones(steps + 1, 1);
  CHECK_EQUAL(minimum_vertex_cuts(dag, ones).back(), 1);
  CHECK((minimum_vertex_cut(chain, ones, {}, 0).nodes == end));
}

// Bits with fractions, so that t is rounded at each of 1e5 nodes, by some 1e-11 at 4e5 bits. What a node hands down
// adds up to what it has but for 3 x 2^-53 each.
void shares_are_conserved() {
  constexpr std::size_t steps = 100'000;
  Indices from, to;
  std::vector<double> gains;
  for (std::size_t k = 0; k < steps; ++k) {
    for (const double gain : {3.1 + 0.1 * static_cast<double>(k % 7), 3.7, 2.9}) {
      from.push_back(static_cast<std::int64_t>(k));
      to.push_back(static_cast<std::int64_t>(k + 1));
      gains.push_back(gain);
    }
  }
  const auto shares = path_shares(Dag(steps + 1, from, to), gains);
  for (std::size_t k = 0; k < steps; ++k) {
    CHECK_NEAR(shares[3 * k] + shares[3 * k + 1] + shares[3 * k + 2], 1, 3.4e-16 * steps);
  }
}

void residual_blocks() {
  constexpr std::int64_t blocks = 1000;
  Indices from, to, end{2 * blocks};
  std::vector<std::uint32_t> lengths;
  for (std::int64_t b = 0; b < blocks; ++b) {  // x + f(x), f of one layer
    for (const auto& [u, v, k] :
         {std::array<std::int64_t, 3>{2 * b, 2 * b + 1, 1}, {2 * b + 1, 2 * b + 2, 0}, {2 * b, 2 * b + 2, 0}}) {
      from.push_back(u);
      to.push_back(v);
      lengths.push_back(static_cast<std::uint32_t>(k));
    }
  }
  const Dag dag(2 * blocks + 1, from, to);
  const std::vector<std::uint64_t> once(from.size(), 1);
  const Natural count = path_counts(dag, once, {}, end).front();
  CHECK_EQUAL(count.bit_length(), blocks + 1);
  CHECK_EQUAL(count.log2(), static_cast<double>(blocks));
  std::vector<Natural> binomials{Natural(1)};
  for (std::int64_t b = 0; b < blocks; ++b) {
    binomials.emplace_back();
    for (std::size_t j = binomials.size() - 1; j > 0; --j) binomials[j] += binomials[j - 1];
  }
  CHECK(path_lengths(dag, lengths).front() == binomials);
}

void fields() {
  // two 3-wide steps, the first of stride 2, beside a step of stride 2 to the same place and one of stride 1
  const Indices from{0, 1, 0, 0, 2, 3}, to{1, 2, 2, 3, 4, 4};
  const Dag dag(6, from, to);
  const Indices source{0};
  const auto f = receptive_fields(dag, std::vector<double>{2, 2, 8, 0, kInfinity, 0},
                                  std::vector<double>{2, 1, 2, 1, 1, 1}, source);
  CHECK((f.size == std::vector<double>{1, 3, 9, 1, kInfinity, 0}));
  CHECK((f.stride == std::vector<double>{1, 2, 2, 1, 2, 0}));
  CHECK((f.consistent == std::vector<std::uint8_t>{1, 1, 1, 1, 0, 1}));
  const Indices two{0, 0, 1}, three{1, 1, 2};
  const auto meet = [&](double stride) {
    return receptive_fields(Dag(3, two, three), std::vector<double>{0, 0, 0}, std::vector<double>{1, stride, 3})
        .consistent;
  };
  CHECK((meet(1 + 5e-10) == std::vector<std::uint8_t>{1, 1, 1}));
  CHECK((meet(1 + 2e-9) == std::vector<std::uint8_t>{1, 0, 0}));
}

// ---- cuts --------------------------------------------------------------------------------------------------------

bool separates(const Graph& graph, const std::vector<Path>& all, std::int64_t target, unsigned set) {
  const auto has = [&](std::int64_t v) { return (set >> v & 1u) != 0; };
  return std::all_of(all.begin(), all.end(), [&](const Path& path) {
    return has(target) || std::any_of(path.begin(), path.end(), [&](std::size_t e) { return has(graph.from[e]); });
  });
}

void cuts() {
  std::mt19937_64 bits(4);
  for (int round = 0; round < 600; ++round) {
    const Graph graph = random_graph(bits);
    Indices capacities(static_cast<std::size_t>(graph.nodes));
    for (auto& c : capacities) c = static_cast<std::int64_t>(bits() % 6);
    const Dag dag = graph.dag();
    const Indices values = minimum_vertex_cuts(dag, capacities, graph.sources);
    for (std::int64_t v = 0; v < graph.nodes; ++v) {
      const std::vector<Path> all = paths(graph, v);
      std::int64_t least = all.empty() ? -1 : std::numeric_limits<std::int64_t>::max();
      for (unsigned set = 0; !all.empty() && set < 1u << graph.nodes; ++set) {
        std::int64_t sum = 0;
        for (std::int64_t u = 0; u < graph.nodes; ++u) sum += (set >> u & 1u) * capacities[static_cast<std::size_t>(u)];
        if (sum < least && separates(graph, all, v, set)) least = sum;
      }
      const VertexCut cut = minimum_vertex_cut(dag, capacities, graph.sources, v);
      CHECK_EQUAL(values[static_cast<std::size_t>(v)], least);
      CHECK_EQUAL(cut.value, least);
      unsigned set = 0;
      std::int64_t sum = all.empty() ? -1 : 0;
      for (const std::int64_t u : cut.nodes) {
        set |= 1u << u;
        sum += capacities[static_cast<std::size_t>(u)];
      }
      CHECK_EQUAL(sum, least);
      CHECK(all.empty() ? cut.nodes.empty() : separates(graph, all, v, set));
      CHECK(std::is_sorted(cut.nodes.begin(), cut.nodes.end()));
    }
  }
}

// Layers of 8 nodes with 3 edges in each: cuts by dominators are those of the whole graph.
void cuts_of_larger_graphs() {
  std::mt19937_64 bits(5);
  for (int round = 0; round < 20; ++round) {
    Indices from, to, capacities(1, 40);
    for (std::int64_t v = 1; v < 160; ++v) {
      const std::int64_t back = v % 16 < 8 ? 6 : 1 + v % 3;
      for (int k = 0; k < 3; ++k) {
        from.push_back(
            std::max<std::int64_t>(0, v - 1 - static_cast<std::int64_t>(bits() % static_cast<unsigned>(back))));
        to.push_back(v);
      }
      capacities.push_back(static_cast<std::int64_t>(10 + bits() % 30));
    }
    const Dag dag(160, from, to);
    const Indices values = minimum_vertex_cuts(dag, capacities);
    for (std::int64_t v = 0; v < 160; ++v) {
      CHECK_EQUAL(minimum_vertex_cut(dag, capacities, {}, v).value, values[static_cast<std::size_t>(v)]);
    }
  }
}

// The poll counts work: with dominators further up than the last, flows would go over what lies between again.
void cuts_of_long_networks() {
  constexpr std::int64_t blocks = 100'000;
  Indices from, to;
  for (std::int64_t b = 0; b < blocks; ++b) {  // x + f(x) + g(h(x))
    const std::int64_t x = 4 * b;
    for (const auto& [u, v] : {std::array<std::int64_t, 2>{x, x + 1},
                               {x, x + 2},
                               {x + 2, x + 3},
                               {x, x + 4},
                               {x + 1, x + 4},
                               {x + 3, x + 4}}) {
      from.push_back(u);
      to.push_back(v);
    }
  }
  const Indices ones(4 * blocks + 1, 1);
  int polls = 0;
  const auto values =
      minimum_vertex_cuts(Dag(4 * blocks + 1, from, to), ones, {}, {1, [&] {
                                                                      if (++polls > 24)
                                                                        throw std::runtime_error("too much work");
                                                                    }});
  CHECK(values == ones);
  CHECK(polls >= 4);
}

// The published case of the page: two branches from one bottleneck are not two bottlenecks; of equal cuts the first.
void known_cuts() {
  const Indices from{0, 1, 1, 2, 3}, to{1, 2, 3, 4, 4}, capacities{100, 8, 8, 8, 16}, first{1};
  const VertexCut cut = minimum_vertex_cut(Dag(5, from, to), capacities, {}, 4);
  CHECK_EQUAL(cut.value, 8);
  CHECK(cut.nodes == first);
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max() / 5;
  const Indices large(5, huge), two{0, 1}, at{2, 2}, wide{huge, huge, 2 * huge};
  CHECK_EQUAL(minimum_vertex_cut(Dag(5, from, to), large, {}, 4).value, huge);
  CHECK_EQUAL(minimum_vertex_cut(Dag(3, two, at), wide, {}, 2).value, 2 * huge);
}

// ---- naturals ----------------------------------------------------------------------------------------------------

void naturals() {
  Natural factorial(1);
  for (std::uint64_t k = 2; k <= 30; ++k) factorial *= k;
  CHECK_EQUAL(factorial.text(), std::string("265252859812191058636308480000000"));
  CHECK_EQUAL(factorial.bit_length(), 108);
  CHECK_EQUAL(Natural().text(), std::string("0"));
  CHECK_EQUAL(Natural(10'000'000'000'000'000'000u).text(), std::string("10000000000000000000"));
  CHECK_EQUAL(Natural().log2(), -kInfinity);
  CHECK(Natural().bytes().empty() && Natural().bit_length() == 0);
  CHECK_EQUAL(Natural(0x0102).bytes(), std::string("\x02\x01\0\0\0\0\0\0", 8));
  Natural power(1);
  for (int k = 0; k < 1000; ++k) power += power;
  CHECK_EQUAL(power.bit_length(), 1001);
  CHECK_EQUAL(power.log2(), 1000.0);
  power.add_product(power, ~std::uint64_t{0});  // 2^1064
  CHECK_EQUAL(power.log2(), 1064.0);
  CHECK_EQUAL(power.limbs().size(), 17u);
  Natural carried(~std::uint64_t{0});
  carried.add_product(carried, ~std::uint64_t{0} - 1);  // (2^64 - 1)^2
  CHECK(carried.limbs()[0] == 1 && carried.limbs()[1] == ~std::uint64_t{1});
  carried += Natural(~std::uint64_t{0});  // (2^64 - 1) 2^64
  CHECK(carried.limbs()[0] == 0 && carried.limbs()[1] == ~std::uint64_t{0});
  Natural odd(1);
  for (int k = 1; k <= 400; ++k) {
    odd *= 3;
    CHECK_NEAR(odd.log2(), k * std::log2(3.0), 0x1p-51 * k * std::log2(3.0));
  }
  CHECK(Natural(3) < Natural(4) && carried > Natural(9) && carried < power);
  Natural moved(std::move(power));
  CHECK(power.zero() && !moved.zero());  // NOLINT: what a number that was moved from promises
  moved *= 0;
  CHECK(moved.zero() && moved == Natural());
}

// ---- errors ------------------------------------------------------------------------------------------------------

void graph_errors() {
  const auto make = [](index_t nodes, Indices from, Indices to) { return Dag(nodes, from, to); };
  CHECK_THROWS(make(3, {0}, {1, 2}), ShapeError, "dag: got 1 edges' beginnings and 2 ends, expected as many");
  CHECK_THROWS(make(-1, {}, {}), ShapeError, "dag: got -1 nodes");
  CHECK_THROWS(make(index_t{1} << 32, {}, {}), ShapeError, "expected 0 to 2^32 - 2");
  CHECK_THROWS(make(3, {0, 1}, {1, 3}), ValueError, "dag: got edge 1 from 1 to 3, expected nodes from 0 to 2");
  CHECK_THROWS(make(3, {-1}, {1}), ValueError, "got edge 0 from -1 to 1");
  CHECK_THROWS(make(3, {1}, {1}), ValueError, "dag: got a cycle through node 1, expected none");
  CHECK_THROWS(make(6, {0, 1, 4, 4, 5}, {1, 4, 5, 2, 4}), ValueError, "cycle through node");
  try {  // 0 leads to the cycle and 2, 3 away from it: it is none of them
    make(6, {0, 1, 4, 4, 5}, {1, 4, 5, 2, 4});
  } catch (const ValueError& e) {
    CHECK(check::contains(e.what(), "node 4") || check::contains(e.what(), "node 5"));
  }
  CHECK_EQUAL(make(0, {}, {}).nodes(), 0);
  CHECK(log2_path_sums(make(0, {}, {}), {}).empty());
}

void value_errors() {
  const Indices from{0, 1}, to{1, 2}, bad{3}, minus{-1}, ones{1, 1, 1}, capacities{1, -1, 1};
  const Dag dag(3, from, to);
  const std::vector<double> good{1, 2}, nan{1, kNaN}, up{kInfinity, 1}, down{-kInfinity, 1}, large{1.5e308, 1.5e308};
  CHECK_THROWS(log2_path_sums(dag, up), NonFinite, "log2_path_sums: got gain inf of edge 0, expected a number below");
  CHECK_THROWS(log2_path_sums(dag, nan), NonFinite, "got gain nan of edge 1");
  CHECK_THROWS(longest_paths(dag, nan), NonFinite, "longest_paths: got gain nan of edge 1");
  CHECK_THROWS(longest_paths(dag, up), NonFinite, "edge 0");
  CHECK_THROWS(shortest_paths(dag, down), NonFinite, "shortest_paths: got gain -inf of edge 0");
  CHECK_THROWS(widest_paths(dag, nan), NonFinite, "widest_paths: got gain nan of edge 1");
  CHECK_THROWS(path_shares(dag, nan), NonFinite, "path_shares: got gain nan of edge 1");
  CHECK_THROWS(log2_path_sums(dag, large), NonFinite, "sum at node 2 is beyond a double");
  CHECK_EQUAL(log2_path_sums(dag, down)[2], -kInfinity);
  CHECK_EQUAL(shortest_paths(dag, up)[2], kInfinity);
  CHECK_EQUAL(widest_paths(dag, up)[2], 1.0);
  CHECK_THROWS(log2_path_sums(dag, std::vector<double>{1}), ShapeError, "got 1 gains, expected 2, one for each edge");
  CHECK_THROWS(log2_path_sums(dag, good, bad), ValueError, "got source 3, expected a node below 3");
  CHECK_THROWS(log2_path_sums(dag, good, minus), ValueError, "got source -1");
  CHECK_THROWS(log2_path_sums(dag, good, {}, bad), ValueError, "got product 3");
  CHECK_THROWS(path_shares(dag, good, {}, {}, bad), ValueError, "path_shares: got target 3");
  CHECK_THROWS(path_counts(dag, std::vector<std::uint64_t>{1, 1}, {}, bad), ValueError, "path_counts: got target 3");
  CHECK_THROWS(path_lengths(dag, std::vector<std::uint32_t>{1}), ShapeError, "path_lengths: got 1 gains");
  CHECK_THROWS(minimum_vertex_cut(dag, ones, {}, 3), ValueError, "minimum_vertex_cut: got target 3");
  CHECK_THROWS(minimum_vertex_cut(dag, capacities, {}, 2), ValueError, "got capacity -1 of node 1");
  CHECK_THROWS(minimum_vertex_cuts(dag, bad), ShapeError, "got 1 capacities, expected 3, one for each node");
  const Indices over(3, std::numeric_limits<std::int64_t>::max() / 3);  // 2^63 - 2 in all
  const Indices beyond{over[0], over[0], over[0] + 1};
  CHECK_EQUAL(minimum_vertex_cuts(dag, over)[2], over[2]);
  CHECK_THROWS(minimum_vertex_cuts(dag, beyond), ValueError, "2^63 - 1 and more in all");
  const auto field = [&](double e, double s) {
    return receptive_fields(dag, std::vector<double>{0, e}, std::vector<double>{1, s});
  };
  CHECK_THROWS(field(kNaN, 1), NonFinite, "receptive_fields: got (nan, 1) of edge 1");
  CHECK_THROWS(field(1, kInfinity), NonFinite, "of edge 1");
  CHECK_THROWS(field(-1, 1), ValueError, "got (-1, 1) of edge 1");
  CHECK_THROWS(field(1, 0), ValueError, "a stride above 0");
  const std::vector<double> none{0, 0}, big{1e200, 1e200}, tiny{1e-200, 1e-200};
  CHECK_THROWS(receptive_fields(dag, none, big), NonFinite, "product at node 2 is beyond a double");
  CHECK_THROWS(receptive_fields(dag, none, tiny), NonFinite, "product at node 2 is beyond a double");
}

// Powers of 2^32 along a long chain, every one of them kept; and lengths too far apart for a dense polynomial.
void limits() {
  constexpr std::int64_t steps = 40'000;
  Indices from(steps), to(steps), end{steps};
  std::iota(from.begin(), from.end(), 0);
  std::iota(to.begin(), to.end(), 1);
  const Dag dag(steps + 1, from, to);
  const std::vector<std::uint64_t> times(steps, std::uint64_t{1} << 32);
  CHECK_THROWS(path_counts(dag, times), LimitExceeded, "path_counts: got paths whose numbers take more than");
  CHECK_EQUAL(path_counts(dag, times, {}, end).front().log2(), 32.0 * steps);
  const Indices two{0, 0}, one{1, 1};
  CHECK_THROWS(path_lengths(Dag(2, two, one), std::vector<std::uint32_t>{0, 1u << 31}), LimitExceeded, "path_lengths");
  CHECK_THROWS(path_lengths(Dag(2, two, one), std::vector<std::uint32_t>(2, 1u << 31)), LimitExceeded, "path_lengths");
}

struct Stop : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void interruption() {
  constexpr std::int64_t steps = 300'000;
  Indices from(steps), to(steps), ones(steps + 1, 1);
  std::iota(from.begin(), from.end(), 1);
  std::iota(to.begin(), to.end(), 0);
  const Execution stop{1, [] { throw Stop("stopped"); }};
  CHECK_THROWS(Dag(steps + 1, from, to, stop), Stop, "stopped");
  const Dag dag(steps + 1, from, to);
  const std::vector<double> gains(steps);
  CHECK_THROWS(log2_path_sums(dag, gains, {}, {}, stop), Stop, "stopped");
  CHECK_THROWS(widest_paths(dag, gains, {}, stop), Stop, "stopped");
  CHECK_THROWS(path_shares(dag, gains, {}, {}, {}, stop), Stop, "stopped");
  CHECK_THROWS(path_counts(dag, std::vector<std::uint64_t>(steps, 1), {}, {}, stop), Stop, "stopped");
  CHECK_THROWS(path_lengths(dag, std::vector<std::uint32_t>(steps, 1), {}, {}, stop), Stop, "stopped");
  CHECK_THROWS(receptive_fields(dag, gains, std::vector<double>(steps, 1), {}, stop), Stop, "stopped");
  CHECK_THROWS(minimum_vertex_cut(dag, ones, {}, 0, stop), Stop, "stopped");
  CHECK_THROWS(minimum_vertex_cuts(dag, ones, {}, stop), Stop, "stopped");
}

}  // namespace

int main() {
  return check::run({
      {"sums of doubles are those over all paths", scalar_semirings},
      {"counts and lengths are those of all paths, whatever is asked for", exact_semirings},
      {"a product takes what reaches it, and one for what does not", products},
      {"shares are differences of the total, with products, sources that edges enter, and several targets", gradients},
      {"a million steps of 1e5 bits are exact", deep_and_large},
      {"shares add up at every step of a long path", shares_are_conserved},
      {"a thousand residual blocks have 2^1000 paths, of binomial lengths", residual_blocks},
      {"receptive fields grow by extent times stride, and say where strides differ", fields},
      {"cuts are the cheapest of all sets that every path meets", cuts},
      {"cuts by dominators are those of the whole graph", cuts_of_larger_graphs},
      {"cuts of a long network take work in proportion to its length", cuts_of_long_networks},
      {"cuts have their known values", known_cuts},
      {"naturals carry, compare and print", naturals},
      {"edges that are none and cycles are refused by name", graph_errors},
      {"gains, capacities and nodes outside their domain are refused by name", value_errors},
      {"numbers beyond the budget are refused, and are not where less is asked for", limits},
      {"what the poll throws comes out", interruption},
  });
}
