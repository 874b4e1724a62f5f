/// Deep graph persistence: known answers, the explicit max-min product, samples, errors, threads.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "check.hpp"
#include "netassay/persistence.hpp"

namespace {

using namespace netassay;
using Numbers = std::vector<double>;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr DeepOptions kPlain{.standardize = false, .rescale = false};

template <class T>
struct Layer {
  index_t outputs, inputs;
  std::vector<T> values;
};

template <class T>
using Network = std::vector<Layer<T>>;

template <class T>
std::vector<AnyWeight> chain_of(const Network<T>& network) {
  std::vector<AnyWeight> chain;
  for (const auto& [outputs, inputs, values] : network)
    chain.emplace_back(MatrixView<const T>(values.data(), outputs, inputs));
  return chain;
}

template <class T>
DeepGraphPersistence deep(const Network<T>& network, const DeepOptions& options = kPlain, int threads = 1) {
  return deep_graph_persistence(chain_of(network), options, {threads, {}});
}

/// Of small integers where `kinds` says how many, else normal.
template <class T>
Network<T> random(const std::vector<index_t>& dims, unsigned seed, int kinds = 0) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<double> normal;
  Network<T> network;
  for (std::size_t l = 1; l < dims.size(); ++l) {
    Layer<T> layer{dims[l], dims[l - 1], {}};
    for (index_t k = 0; k < dims[l] * dims[l - 1]; ++k) {
      const auto small = static_cast<double>(bits() % static_cast<unsigned>(2 * kinds + 1)) - kinds;
      layer.values.push_back(static_cast<T>(kinds > 0 ? small : normal(bits)));
    }
    network.push_back(std::move(layer));
  }
  return network;
}

/// The tree weights of S, S by the product over every path's layers, its tree by the single-layer kernel.
Numbers literal(const Network<double>& network) {
  const index_t d = network.front().inputs;
  Numbers s;  // (units, inputs)
  for (index_t j = 0; j < d; ++j) {
    for (index_t i = 0; i < d; ++i) s.push_back(i == j ? kInfinity : 0);
  }
  for (const auto& [outputs, inputs, w] : network) {
    Numbers next(static_cast<std::size_t>(outputs * d));
    for (index_t v = 0; v < outputs; ++v) {
      for (index_t u = 0; u < inputs; ++u) {
        const double edge = std::abs(w[static_cast<std::size_t>(v * inputs + u)]);
        for (index_t i = 0; i < d; ++i) {
          double& best = next[static_cast<std::size_t>(v * d + i)];
          best = std::max(best, std::min(edge, s[static_cast<std::size_t>(u * d + i)]));
        }
      }
    }
    s = std::move(next);
  }
  const SpanningTree tree =
      maximum_spanning_tree(MatrixView<const double>(s.data(), network.back().outputs, d), {1, {}});
  Numbers weights;
  for (const TreeEdge& edge : tree.edges) weights.push_back(edge.weight);
  return weights;
}

// The worked example of docs/deep-graph-persistence.md: 3 inputs, 2 hidden units, 2 outputs.
const Network<double> kExample{{2, 3, {9, 5, 2, 3, 7, 6}}, {2, 2, {4, 1, 2, 8}}};

void known_answers() {
  const DeepGraphPersistence example = deep(kExample, {.standardize = false});
  CHECK((example.weights == Numbers{1, 6.0 / 7, 4.0 / 7, 4.0 / 7}));
  CHECK_EQUAL(example.peak, 7.0 / 9);
  CHECK_NEAR(example.total, std::sqrt(1 + (1 + 9 + 9) / 49.0), 1e-15);
  CHECK_NEAR(example.normalized, example.total / 2, 1e-15);
  CHECK(example.constant.empty() && !example.zero);
  CHECK((deep(kExample).weights == Numbers{7.0 / 9, 6.0 / 9, 4.0 / 9, 4.0 / 9}));

  const DeepGraphPersistence path = deep<double>({{1, 1, {0.5}}, {1, 1, {-0.25}}, {1, 1, {1}}});
  CHECK((path.weights == Numbers{0.25} && path.peak == 0.25));
  CHECK((path.constant == std::vector<index_t>{0, 1, 2}));
  CHECK_NEAR(path.total, std::sqrt(1 + 0.5625), 1e-15);
}

void one_layer() {
  for (unsigned seed = 0; seed < 30; ++seed) {
    const index_t m = 1 + seed % 7, n = 1 + seed % 11;
    const Network<double> network = random<double>({n, m}, seed);
    const MatrixView<const double> w(network[0].values.data(), m, n);
    const NeuralPersistence layer = neural_persistence(w, {}, {1, {}});
    const DeepGraphPersistence got = deep(network);
    CHECK(got.weights == layer.weights && got.total == layer.total && got.normalized == layer.normalized);
  }
}

void explicit_product() {
  const std::vector<std::vector<index_t>> shapes{{1, 1},    {3, 1, 4},       {1, 5, 1},       {4, 3, 2},
                                                 {2, 6, 2}, {5, 4, 3, 2, 6}, {9, 2, 2, 2, 9}, {40, 30, 50}};
  for (unsigned seed = 0; seed < 400; ++seed) {
    const Network<double> network = random<double>(shapes[seed % shapes.size()], seed, static_cast<int>(seed % 4));
    double largest = 0;
    for (const auto& layer : network) {
      for (const double w : layer.values) largest = std::max(largest, std::abs(w));
    }
    Numbers expected = literal(network);
    const double peak = expected.front();
    for (double& w : expected) w = largest > 0 ? w / largest : 0;
    const DeepGraphPersistence got = deep(network);
    CHECK(got.weights == expected);
    CHECK_EQUAL(got.peak, largest > 0 ? peak / largest : 0);
    CHECK_EQUAL(got.zero, peak == 0);
  }
}

void standardized() {
  // mean 5, deviation 4: edges 1 and 1, then 1 and 1 of a mean of 1 and a deviation of 3
  const DeepGraphPersistence got = deep<double>({{2, 1, {1, 9}}, {1, 2, {-2, 4}}}, {});
  CHECK((got.weights == Numbers{1} && got.peak == 1 && got.total == 1));
  const Network<double> network = random<double>({7, 6, 5, 4}, 3);
  Network<double> other = network;
  for (double& w : other[0].values) w *= -1024;
  for (double& w : other[2].values) w /= 65536;
  CHECK(deep(network, {}).weights == deep(other, {}).weights);
  CHECK(deep(network).weights != deep(other).weights);
}

void constant_and_dead_layers() {
  Network<double> network = random<double>({4, 5, 3}, 2);
  std::fill(network[1].values.begin(), network[1].values.end(), 0.1);
  const DeepGraphPersistence got = deep(network, {});
  CHECK((got.constant == std::vector<index_t>{1} && got.zero && got.peak == 0 && got.weights == Numbers(6)));
  CHECK_NEAR(got.total, std::sqrt(7.0), 1e-15);
  CHECK(!deep(network).zero);
  for (const bool rescale : {false, true}) {
    const DeepGraphPersistence dead = deep<double>({{2, 1, {3, 0}}, {1, 2, {0, 5}}}, {2, false, rescale});
    CHECK(dead.zero && dead.constant.empty() && dead.weights == Numbers{0});
    CHECK_NEAR(dead.total, std::sqrt(2.0), 1e-15);
  }
}

void every_power() {
  const Numbers weights = deep(random<double>({9, 8, 7}, 1)).weights;
  for (const double p : {0.5, 1.0, 3.0}) {
    const DeepGraphPersistence got = deep(random<double>({9, 8, 7}, 1), {p, false, false});
    double sum = 1;
    for (const double w : weights) sum += std::pow(1 - w, p);
    CHECK_NEAR(got.total, std::pow(sum, 1 / p), 1e-13 * got.total);
    CHECK_NEAR(got.normalized, std::pow(sum / 15, 1 / p), 1e-13 * got.total);
  }
}

void every_format() {
  const Network<std::int8_t> small = random<std::int8_t>({9, 8, 7}, 1, 5);
  const auto with = [&]<class T>(T) {
    Network<T> network;
    for (const auto& layer : small) network.push_back({layer.outputs, layer.inputs, {}});
    for (std::size_t l = 0; l < small.size(); ++l) {
      for (const std::int8_t w : small[l].values) network[l].values.push_back(static_cast<T>(w));
    }
    return deep(network).weights;
  };
  const Numbers expected = with(double{});
  CHECK(with(float{}) == expected);
  CHECK(deep(small).weights == expected);
  Network<bf16> half;
  for (const auto& layer : small) {
    half.push_back({layer.outputs, layer.inputs, {}});
    for (const std::int8_t w : layer.values) {
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(w));
      half.back().values.push_back({static_cast<std::uint16_t>(bits >> 16)});
    }
  }
  CHECK(deep(half).weights == expected);
  std::vector<AnyWeight> mixed{chain_of(half)[0], chain_of(small)[1]};
  CHECK(deep_graph_persistence(mixed, kPlain, {1, {}}).weights == expected);
}

void strides() {
  const Network<double> network = random<double>({6, 5}, 4);
  Numbers turned(30);
  for (std::size_t v = 0; v < 5; ++v) {
    for (std::size_t u = 0; u < 6; ++u) turned[u * 5 + v] = network[0].values[v * 6 + u];
  }
  const std::vector<AnyWeight> fortran{MatrixView<const double>(turned.data(), 5, 6, 1, 5)};
  const std::vector<AnyWeight> backwards{MatrixView<const double>(turned.data() + 29, 5, 6, -1, -5)};
  for (const DeepOptions& options : {kPlain, DeepOptions{}}) {
    CHECK(deep_graph_persistence(fortran, options, {1, {}}).weights == deep(network, options).weights);
  }
  CHECK(deep_graph_persistence(backwards, kPlain, {1, {}}).weights == deep(network).weights);
}

void errors() {
  CHECK_THROWS(deep<double>({}), ShapeError, "deep_graph_persistence: got no layers, expected at least one");
  CHECK_THROWS(deep(random<double>({3, 0}, 1)), ShapeError, "got layer 0 of 0 x 3, expected no side of 0");
  Network<double> gap = random<double>({3, 4, 2}, 1);
  gap[1] = random<double>({5, 2}, 1)[0];
  CHECK_THROWS(deep(gap), ShapeError, "got layer 1 with 5 inputs after one of 4 outputs, expected a chain");
  for (const double p : {0.0, -1.0, kNaN, kInfinity}) {
    CHECK_THROWS(deep(kExample, {.p = p}), ValueError, "expected a finite number above 0");
  }
  for (const double bad : {kNaN, kInfinity, -kInfinity}) {
    for (const std::size_t place : {0u, 13u, 19u}) {
      Network<double> broken = random<double>({3, 4, 5}, 1);
      broken[1].values[place] = bad;
      for (const bool standardize : {false, true}) {
        CHECK_THROWS(deep(broken, {2, standardize, true}), NonFinite,
                     "deep_graph_persistence: got NaN or infinity in layer 1, expected finite weights");
      }
    }
  }
}

void differences() {
  const float most = std::numeric_limits<float>::max();
  const Network<float> network{{1, 4, {-most, most, most, most}}};
  CHECK_THROWS(deep(network, {}), NonFinite, "difference is beyond their format");
  CHECK((deep(network).weights == Numbers{1, 1, 1, 1}));
  // as float64 they are nothing special
  const Network<double> wide{{1, 4, {-most, most, most, most}}};
  CHECK_NEAR(deep(wide, {}).weights[3], 1 / 3.0, 1e-15);
}

void threads() {
  const Network<float> network = random<float>({300, 280, 310, 20}, 7);
  for (const bool standardize : {false, true}) {
    const DeepGraphPersistence one = deep(network, {2, standardize, true}, 1);
    for (const int count : {2, 3, 7}) {
      const DeepGraphPersistence got = deep(network, {2, standardize, true}, count);
      CHECK(got.weights == one.weights && got.total == one.total && got.peak == one.peak);
    }
  }
}

// ---- samples ----

using Batch = std::vector<Layer<float>>;  // (samples, units)

std::vector<MatrixView<const float>> views(const Batch& batch) {
  std::vector<MatrixView<const float>> out;
  for (const auto& [samples, units, values] : batch) out.emplace_back(values.data(), samples, units);
  return out;
}

std::vector<Numbers> samples(const Network<float>& network, const Batch& batch, const SampleOptions& options = {},
                             int threads = 1) {
  return sample_persistence(chain_of(network), views(batch), options, {threads, {}});
}

void known_samples() {
  const Network<float> network{{1, 1, {0.5f}}, {1, 1, {-2}}};
  const Batch batch{{2, 1, {1, 4}}, {2, 1, {3, 0.5f}}};
  CHECK((samples(network, batch) == std::vector<Numbers>{{0.5}, {1}}));
  CHECK((samples(network, batch, {.joint = true}) == std::vector<Numbers>{{0.5 / 6}, {0.5}}));
  CHECK((samples(network, batch, {.approximate = true}) == std::vector<Numbers>{{0.5, 0.5}, {1, 1}}));
  // products 1 and 3: mean 2, std sqrt(2) with divisor 1
  const auto got = samples({{2, 1, {1, 3}}}, {{1, 1, {1}}}, {.standardize = true});
  CHECK(got[0].size() == 2);
  for (const double w : got[0]) CHECK_NEAR(w, 1 / std::sqrt(2.0), 1e-7);
  CHECK((samples({{1, 1, {4}}}, {{1, 1, {2}}}, {.standardize = true, .joint = true}) == std::vector<Numbers>{{0}}));
  CHECK(samples({{1, 1, {4}}}, {{0, 1, {}}}).empty());
}

void samples_of_the_example() {
  Network<float> network;
  for (const auto& layer : kExample)
    network.push_back({layer.outputs, layer.inputs, {layer.values.begin(), layer.values.end()}});
  const Batch ones{{1, 3, {1, 1, 1}}, {1, 2, {1, 1}}};
  CHECK((samples(network, ones) == std::vector<Numbers>{{7, 6, 4, 4}}));
  CHECK((samples(network, ones, {.approximate = true}) == std::vector<Numbers>{{4, 7, 6, 4, 7}}));
  const Batch off{{1, 3, {1, 1, 1}}, {1, 2, {0, 1}}};  // the first hidden unit is rectified away
  CHECK((samples(network, off) == std::vector<Numbers>{{7, 6, 3, 1}}));
}

void batches() {
  const Network<float> network = random<float>({12, 10, 8}, 3);
  Batch batch;
  for (const auto& layer : network) batch.push_back(random<float>({layer.inputs, 9}, 5)[0]);
  for (const bool standardize : {false, true}) {
    for (const bool approximate : {false, true}) {
      const SampleOptions options{standardize, true, approximate};
      const std::vector<Numbers> whole = samples(network, batch, options);
      for (const int count : {2, 3, 7}) CHECK(samples(network, batch, options, count) == whole);
      for (std::size_t i = 0; i < 9; ++i) {
        Batch one;
        for (const auto& [rows, units, values] : batch) {
          const auto begin = values.begin() + static_cast<index_t>(i) * units;
          one.push_back({1, units, {begin, begin + units}});
        }
        CHECK(samples(network, one, options)[0] == whole[i]);
      }
    }
  }
}

void uncertainty() {
  const Layer<float> w = random<float>({12, 10}, 3)[0], x = random<float>({12, 4}, 5)[0];
  const auto got = topological_uncertainty(MatrixView<const float>(w.values.data(), 10, 12), views({x})[0], {2, {}});
  CHECK_EQUAL(got.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    std::vector<float> products;
    for (std::size_t k = 0; k < 120; ++k) products.push_back(w.values[k] * x.values[i * 12 + k % 12]);
    const SpanningTree tree = maximum_spanning_tree(MatrixView<const float>(products.data(), 10, 12), {1, {}});
    CHECK_EQUAL(got[i].size(), tree.edges.size());
    for (std::size_t k = 0; k < got[i].size(); ++k) CHECK_EQUAL(got[i][k], tree.edges[k].weight);
  }
}

void sample_errors() {
  const Network<float> network = random<float>({3, 4, 2}, 1);
  const Batch good{{2, 3, std::vector<float>(6)}, {2, 4, std::vector<float>(8)}};
  CHECK_THROWS(samples({}, {}), ShapeError, "sample_persistence: got no layers, expected at least one");
  CHECK_THROWS(samples(network, {good[0]}), ShapeError, "got 1 activations for 2 layers, expected what enters each");
  CHECK_THROWS(samples(network, {good[0], good[0]}), ShapeError,
               "got activations of 2 x 3 for layer 1, expected 2 x 4");
  CHECK_THROWS(samples(network, {good[0], {1, 4, std::vector<float>(4)}}), ShapeError,
               "got activations of 1 x 4 for layer 1, expected 2 x 4");
  Batch bad = good;
  bad[1].values[5] = std::numeric_limits<float>::quiet_NaN();
  for (const int count : {1, 2}) {
    CHECK_THROWS(samples(network, bad, {}, count), NonFinite,
                 "sample_persistence: got NaN or infinity in layer 1 for sample 1");
  }
  bad[1].values[5] = 3e38f;
  Network<float> steep = network;
  steep[1].values.assign(8, 1e3f);
  CHECK_THROWS(samples(steep, bad), NonFinite, "in layer 1 for sample 1");
}

}  // namespace

int main() {
  return check::run({
      {"small networks have their known values", known_answers},
      {"one layer has its neural persistence", one_layer},
      {"linear time equals the explicit max-min product to the bit, with ties, zeros and single units",
       explicit_product},
      {"a standardized layer has the same edges at every scale and sign", standardized},
      {"constant layers and dead ends have weights of zero, and a mark", constant_and_dead_layers},
      {"every power", every_power},
      {"every format, and a mixture, has the values of float64", every_format},
      {"strides of any order and sign", strides},
      {"what is no chain, no power or not finite is refused", errors},
      {"differences that the format cannot hold are refused", differences},
      {"any number of threads gives the same bits", threads},
      {"samples have their known values", known_samples},
      {"samples of the example", samples_of_the_example},
      {"a batch is its samples, on any number of threads", batches},
      {"topological uncertainty is the tree of a layer's products", uncertainty},
      {"samples that do not fit or are not finite are refused", sample_errors},
  });
}
