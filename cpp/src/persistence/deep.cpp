#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "graph/tree.hpp"
#include "netassay/persistence.hpp"
#include "persistence/chain.hpp"
#include "persistence/norm.hpp"

namespace netassay {
namespace {

using persistence::Bottlenecks;
using persistence::Edges;
using persistence::StoredEdges;

template <class W>
using Chain = std::vector<std::unique_ptr<Edges<W>>>;

template <class W>
std::unique_ptr<Edges<W>> edges_of(const AnyWeight& weight, const W* gain = nullptr) {
  return std::visit(
      [gain]<class T>(const MatrixView<const T>& w) -> std::unique_ptr<Edges<W>> {
        return std::make_unique<StoredEdges<T, W>>(w, gain);
      },
      weight);
}

std::pair<index_t, index_t> shape(const AnyWeight& weight) {
  return std::visit([](const auto& w) { return std::pair(w.rows, w.cols); }, weight);
}

void require_chain(std::span<const AnyWeight> chain, const char* function) {
  NETASSAY_REQUIRE(!chain.empty(), ShapeError, function, ": got no layers, expected at least one");
  for (std::size_t l = 0; l < chain.size(); ++l) {
    const auto [outputs, inputs] = shape(chain[l]);
    NETASSAY_REQUIRE(outputs > 0 && inputs > 0, ShapeError, function, ": got layer ", l, " of ", outputs, " x ", inputs,
                     ", expected no side of 0");
    NETASSAY_REQUIRE(l == 0 || shape(chain[l - 1]).first == inputs, ShapeError, function, ": got layer ", l, " with ",
                     inputs, " inputs after one of ", shape(chain[l - 1]).first,
                     " outputs, expected a chain: the outputs of each layer are the inputs of the next");
  }
}

/// Rows to a task.
index_t band_of(index_t inputs) { return std::max<index_t>(1, (index_t{1} << 16) / inputs); }

/// Calls row(v, values) for the edges into every output v, or for what makes them.
template <class W, class Row>
void for_rows(const Edges<W>& edges, bool bare, const Execution& execution, Row&& row) {
  const index_t band = band_of(edges.inputs());
  parallel_for((edges.outputs() + band - 1) / band, execution, [&](index_t b, int worker) {
    std::vector<W> values(static_cast<std::size_t>(edges.inputs()));
    for (index_t v = b * band; v < std::min(edges.outputs(), (b + 1) * band); ++v) {
      if (bare) {
        row(v, edges.products(v, values.data()), worker);
      } else {
        edges.row(v, values.data());
        row(v, values.data(), worker);
      }
    }
  });
}

/// What one read of a layer tells.
struct Spread {
  double mean = 0, deviation = 0, low = 0, high = 0;
  bool finite = true;
};

/// Count, mean and sum of squares about it, in units of 2^exponent: neither too large nor too small to be squared.
struct Part {
  double n = 0, mean = 0, square = 0, low = 0, high = 0;
  int exponent = 0;
  bool finite = true;
};

/// Several sums at a time, so that none waits for the one before.
template <class W, class Term>
double sum_of(const W* values, index_t n, Term&& term) {
  constexpr index_t kSums = 8;
  double sums[kSums] = {};
  index_t u = 0;
  for (; u + kSums <= n; u += kSums) {
    for (index_t k = 0; k < kSums; ++k) sums[k] += term(values[u + k]);
  }
  for (; u < n; ++u) sums[u % kSums] += term(values[u]);
  double all = 0;
  for (const double sum : sums) all += sum;
  return all;
}

template <class W>
Part part_of(const W* values, index_t n) {
  W low = values[0], high = values[0];
  int numbers = 1;
  for (index_t u = 0; u < n; ++u) {
    low = values[u] < low ? values[u] : low;
    high = values[u] > high ? values[u] : high;
    numbers &= values[u] == values[u];
  }
  Part out;
  out.n = static_cast<double>(n);
  out.low = static_cast<double>(low);
  out.high = static_cast<double>(high);
  const double most = std::max(std::abs(out.low), std::abs(out.high));
  out.finite = numbers != 0 && std::isfinite(most);
  if (!out.finite) return out;
  constexpr int kLeast = -1000;  // 2^-exponent is a number
  out.exponent = most > 0 ? std::max(kLeast, std::ilogb(most)) : kLeast;
  const double unit = std::ldexp(1.0, -out.exponent);
  out.mean = sum_of(values, n, [&](W x) { return static_cast<double>(x) * unit; }) / out.n;
  out.square = sum_of(values, n, [&](W x) {
    const double apart = static_cast<double>(x) * unit - out.mean;
    return apart * apart;
  });
  return out;
}

/// Chan, Golub and LeVeque: the statistics of both together.
void join(Part& a, Part b) {
  const int exponent = std::max(a.exponent, b.exponent);
  for (Part* part : {&a, &b}) {
    part->mean = std::ldexp(part->mean, part->exponent - exponent);
    part->square = std::ldexp(part->square, 2 * (part->exponent - exponent));
  }
  const double n = a.n + b.n, apart = b.mean - a.mean;
  a.square += b.square + apart * apart * (a.n * b.n / n);
  a.mean += apart * (b.n / n);
  a.n = n;
  a.exponent = exponent;
  a.low = std::min(a.low, b.low);
  a.high = std::max(a.high, b.high);
  a.finite &= b.finite;
}

/// The spread of w gain, by rows and then over rows in order. The divisor of the variance is their number less `less`.
template <class W>
Spread spread(const Edges<W>& edges, double less, const Execution& execution) {
  std::vector<Part> rows(static_cast<std::size_t>(edges.outputs()));
  for_rows(edges, true, execution, [&](index_t v, const W* values, int) {
    rows[static_cast<std::size_t>(v)] = part_of(values, edges.inputs());
  });
  Part all = rows[0];
  for (std::size_t v = 1; v < rows.size(); ++v) join(all, rows[v]);
  const bool constant = all.low == all.high || all.n <= less;
  const double deviation = constant ? 0 : std::ldexp(std::sqrt(all.square / (all.n - less)), all.exponent);
  return {std::ldexp(all.mean, all.exponent), deviation, all.low, all.high, all.finite};
}

/// Of a layer whose center and divisor are set: the largest edge is at one end of its products.
template <class W>
double largest_edge(const Edges<W>& edges, const Spread& s) {
  const auto edge = [&](double end) { return std::abs(static_cast<W>(end) - edges.center) / edges.divisor; };
  return static_cast<double>(std::max(edge(s.low), edge(s.high)));
}

/// Bottlenecks of the best path to every unit from the inputs, and from every unit to the outputs.
template <class W>
struct Reach {
  std::vector<std::vector<W>> alpha, beta;  // of layer 0 ... L
};

template <class W>
std::vector<W> forward(const Edges<W>& edges, const std::vector<W>& alpha, const Execution& execution) {
  std::vector<W> next(static_cast<std::size_t>(edges.outputs()));
  for_rows(edges, false, execution, [&](index_t v, const W* row, int) {
    constexpr index_t kLanes = 16;  // several maxima at a time, so that none waits for the one before
    W most[kLanes] = {};
    const W* bound = alpha.data();
    index_t u = 0;
    for (; u + kLanes <= edges.inputs(); u += kLanes) {
      for (index_t k = 0; k < kLanes; ++k) {
        const W through = row[u + k] < bound[u + k] ? row[u + k] : bound[u + k];
        most[k] = through > most[k] ? through : most[k];
      }
    }
    for (; u < edges.inputs(); ++u) most[0] = std::max(most[0], std::min(row[u], bound[u]));
    next[static_cast<std::size_t>(v)] = *std::max_element(most, most + kLanes);
  });
  return next;
}

template <class W>
std::vector<W> backward(const Edges<W>& edges, const std::vector<W>& beta, const Execution& execution) {
  const auto inputs = static_cast<std::size_t>(edges.inputs());
  std::vector<std::vector<W>> most(static_cast<std::size_t>(thread_count(execution.threads)));
  for_rows(edges, false, execution, [&](index_t v, const W* row, int worker) {
    std::vector<W>& mine = most[static_cast<std::size_t>(worker)];
    if (mine.empty()) mine.resize(inputs);
    const W bound = beta[static_cast<std::size_t>(v)];
    for (std::size_t u = 0; u < inputs; ++u) mine[u] = std::max(mine[u], std::min(row[u], bound));
  });
  std::vector<W> before(inputs);
  for (const std::vector<W>& mine : most) {
    for (std::size_t u = 0; u < mine.size(); ++u) before[u] = std::max(before[u], mine[u]);
  }
  return before;
}

template <class W>
Reach<W> reach(const Chain<W>& chain, const Execution& execution) {
  const std::size_t layers = chain.size();
  constexpr W kInfinite = std::numeric_limits<W>::infinity();
  Reach<W> out;
  out.alpha.resize(layers + 1);
  out.beta.resize(layers + 1);
  out.alpha[0].assign(static_cast<std::size_t>(chain.front()->inputs()), kInfinite);
  out.beta[layers].assign(static_cast<std::size_t>(chain.back()->outputs()), kInfinite);
  for (std::size_t l = 0; l < layers; ++l) out.alpha[l + 1] = forward(*chain[l], out.alpha[l], execution);
  for (std::size_t l = layers; l > 0; --l) out.beta[l - 1] = backward(*chain[l - 1], out.beta[l], execution);
  return out;
}

/// The tree weights of S, descending: deaths of the layered graph's forest that join inputs or outputs.
template <class W>
std::vector<double> deaths(const Chain<W>& chain, const Reach<W>& reach, const Execution& execution) {
  std::vector<std::vector<graph::Edge>> forests;
  std::uint32_t first = 0;  // the number of the layer's first input, among all units
  for (std::size_t l = 0; l < chain.size(); ++l) {
    const Bottlenecks<W> rows(*chain[l], reach.alpha[l], reach.beta[l + 1]);
    auto spanned = graph::span_rows(rows, execution, TreeMethod::automatic, [](const auto&) {});
    const auto next = first + static_cast<std::uint32_t>(chain[l]->inputs());
    for (graph::Edge& e : spanned.tree) {
      e.row += next;
      e.col += first;
    }
    forests.push_back(std::move(spanned.tree));
    first = next;
  }
  const auto ends = static_cast<std::size_t>(chain.front()->inputs() + chain.back()->outputs());
  const std::size_t units = first + static_cast<std::size_t>(chain.back()->outputs());
  std::vector<char> holds(units, 0);  // by representative: whether the component holds an input or an output
  std::fill_n(holds.begin(), chain.front()->inputs(), char{1});
  std::fill_n(holds.begin() + static_cast<index_t>(first), chain.back()->outputs(), char{1});
  graph::UnionFind joined(units);
  std::vector<double> found;
  found.reserve(ends - 1);
  for (const graph::Edge& e : graph::sort_descending(forests)) {
    const std::uint32_t a = joined.find(e.row), b = joined.find(e.col);
    if (a == b) continue;
    if (holds[a] && holds[b]) found.push_back(static_cast<double>(Bottlenecks<W>::value(e.key)));
    const char either = holds[a] | holds[b];
    joined.join(a, b);
    holds[joined.find(a)] = either;
  }
  return found;
}

double over(double weight, double scale) { return scale > 0 ? weight / scale : 0; }

template <class W>
DeepGraphPersistence deep(std::span<const AnyWeight> weights, const DeepOptions& options, const Execution& execution) {
  DeepGraphPersistence out{};
  Chain<W> chain;
  double largest = 0;  // edge of the network
  for (std::size_t l = 0; l < weights.size(); ++l) {
    chain.push_back(edges_of<W>(weights[l]));
    Edges<W>& edges = *chain.back();
    const Spread s = spread(edges, 0, execution);
    NETASSAY_REQUIRE(s.finite, NonFinite, "deep_graph_persistence: got NaN or infinity in layer ", l,
                     ", expected finite weights");
    const bool constant = s.low == s.high;
    if (constant) out.constant.push_back(static_cast<index_t>(l));
    if (options.standardize) {
      edges.center = static_cast<W>(s.mean);
      edges.divisor = constant ? std::numeric_limits<W>::infinity()
                               : std::max(static_cast<W>(s.deviation), std::numeric_limits<W>::denorm_min());
    }
    largest = std::max(largest, largest_edge(edges, s));
  }
  NETASSAY_REQUIRE(std::isfinite(largest), NonFinite, "deep_graph_persistence: got weights of opposite signs whose ",
                   "difference is beyond their format, expected smaller ones");
  const Reach<W> paths = reach(chain, execution);
  const std::vector<double> found = deaths(chain, paths, execution);
  const std::vector<W>& from_inputs = paths.beta.front();
  const double most = static_cast<double>(*std::max_element(from_inputs.begin(), from_inputs.end()));

  out.zero = most == 0;
  out.peak = over(most, largest);
  persistence::Sum lifetimes;
  lifetimes.add(1);  // the essential class
  for (const double w : found) {
    out.weights.push_back(over(w, options.rescale ? most : largest));
    lifetimes.add(persistence::power(1 - out.weights.back(), options.p));
  }
  out.total = persistence::root(lifetimes.value(), options.p);
  out.normalized = persistence::root(lifetimes.value() / static_cast<double>(found.size()), options.p);
  return out;
}

std::vector<double> sample(std::span<const AnyWeight> weights, std::span<const MatrixView<const float>> inputs,
                           index_t i, const SampleOptions& options) {
  const Execution alone{1, {}};
  Chain<float> chain;
  std::vector<std::vector<float>> gains(weights.size());
  double largest = 0;
  for (std::size_t l = 0; l < weights.size(); ++l) {
    const MatrixView<const float>& x = inputs[l];
    for (index_t u = 0; u < x.cols; ++u) gains[l].push_back(x(i, u));
    chain.push_back(edges_of<float>(weights[l], gains[l].data()));
    Edges<float>& edges = *chain.back();
    const Spread s = spread(edges, 1, alone);
    NETASSAY_REQUIRE(s.finite, NonFinite, "sample_persistence: got NaN or infinity in layer ", l, " for sample ", i,
                     ", expected finite weights and activations");
    if (options.standardize) {
      edges.center = static_cast<float>(s.mean);
      edges.divisor = static_cast<float>(s.deviation + 1e-8);
    }
    largest = std::max(largest, largest_edge(edges, s));
  }
  const Reach<float> paths = reach(chain, alone);
  std::vector<double> out;
  if (options.approximate) {
    out.assign(paths.beta.front().begin(), paths.beta.front().end());
    out.insert(out.end(), paths.alpha.back().begin(), paths.alpha.back().end());
  } else {
    out = deaths(chain, paths, alone);
  }
  if (options.joint) {
    for (double& w : out) w = over(w, largest);
  }
  return out;
}

void require_inputs(std::span<const AnyWeight> chain, std::span<const MatrixView<const float>> inputs,
                    const char* function) {
  NETASSAY_REQUIRE(inputs.size() == chain.size(), ShapeError, function, ": got ", inputs.size(), " activations for ",
                   chain.size(), " layers, expected what enters each");
  for (std::size_t l = 0; l < chain.size(); ++l) {
    NETASSAY_REQUIRE(inputs[l].cols == shape(chain[l]).second && inputs[l].rows == inputs[0].rows, ShapeError, function,
                     ": got activations of ", inputs[l].rows, " x ", inputs[l].cols, " for layer ", l, ", expected ",
                     inputs[0].rows, " x ", shape(chain[l]).second);
  }
}

}  // namespace

DeepGraphPersistence deep_graph_persistence(std::span<const AnyWeight> chain, const DeepOptions& options,
                                            const Execution& execution) {
  require_chain(chain, "deep_graph_persistence");
  NETASSAY_REQUIRE(options.p > 0 && std::isfinite(options.p), ValueError, "deep_graph_persistence: got p=", options.p,
                   ", expected a finite number above 0");
  const bool wide = std::any_of(chain.begin(), chain.end(), [](const AnyWeight& w) { return w.index() == 0; });
  return wide ? deep<double>(chain, options, execution) : deep<float>(chain, options, execution);
}

std::vector<std::vector<double>> sample_persistence(std::span<const AnyWeight> chain,
                                                    std::span<const MatrixView<const float>> inputs,
                                                    const SampleOptions& options, const Execution& execution) {
  require_chain(chain, "sample_persistence");
  require_inputs(chain, inputs, "sample_persistence");
  std::vector<std::vector<double>> out(static_cast<std::size_t>(inputs[0].rows));
  parallel_for(inputs[0].rows, execution,
               [&](index_t i, int) { out[static_cast<std::size_t>(i)] = sample(chain, inputs, i, options); });
  return out;
}

std::vector<std::vector<double>> topological_uncertainty(const AnyWeight& weight, const MatrixView<const float>& input,
                                                         const Execution& execution) {
  return sample_persistence(std::span(&weight, 1), std::span(&input, 1), {}, execution);
}

}  // namespace netassay
