#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/persistence.hpp"

namespace netassay::bindings {
namespace {

TreeMethod method(const std::string& name) {
  if (name == "automatic") return TreeMethod::automatic;
  if (name == "filter") return TreeMethod::filter;
  if (name == "boruvka") return TreeMethod::boruvka;
  if (name == "prim") return TreeMethod::prim;
  detail::fail<ValueError>("spanning_tree: got method '", name, "', expected automatic, filter, boruvka or prim");
}

py::tuple spanning_tree(const py::array& w, const std::string& dtype, const std::string& how, int threads) {
  SpanningTree tree;
  with_matrix(w, dtype, "spanning_tree", [&](const auto& matrix) {
    const TreeMethod chosen = method(how);
    const py::gil_scoped_release free;
    tree = maximum_spanning_tree(matrix, execution(threads), chosen);
  });
  const auto edges = static_cast<py::ssize_t>(tree.edges.size());
  py::array_t<double> weights(edges);
  py::array_t<std::uint32_t> ends({edges, py::ssize_t{2}});
  for (py::ssize_t k = 0; k < edges; ++k) {
    const TreeEdge& edge = tree.edges[static_cast<std::size_t>(k)];
    weights.mutable_at(k) = edge.weight;
    ends.mutable_at(k, 0) = edge.row;
    ends.mutable_at(k, 1) = edge.col;
  }
  return py::make_tuple(weights, ends, array(tree.row_max), array(tree.col_max));
}

double largest(const py::array& w, const std::string& dtype, int threads) {
  double found = 0;
  with_matrix(w, dtype, "largest", [&](const auto& matrix) {
    const py::gil_scoped_release free;
    found = largest_magnitude(matrix, execution(threads));
  });
  return found;
}

using Numbers = py::array_t<double, py::array::c_style>;

std::span<const double> span(const Numbers& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }

py::tuple neural_persistence_of(const Numbers& tree, const Numbers& row_max, const Numbers& col_max, double scale,
                                double p, bool essential, bool single) {
  NeuralPersistence out = neural_persistence(span(tree), span(row_max), span(col_max), scale, {p, essential, single});
  return py::make_tuple(out.total, out.normalized, out.lower_bound, array(out.weights), out.scale, out.zero);
}

/// (array, dtype tag) of each layer.
using Weights = std::vector<std::pair<py::array, std::string>>;

std::vector<AnyWeight> chain_of(const Weights& weights, const char* function) {
  std::vector<AnyWeight> chain;
  for (const auto& [array, dtype] : weights) {
    with_matrix(array, dtype, function, [&](const auto& matrix) { chain.emplace_back(matrix); });
  }
  return chain;
}

py::tuple deep_graph_persistence_of(const Weights& weights, double p, bool standardize, bool rescale, int threads) {
  const std::vector<AnyWeight> chain = chain_of(weights, "deep_graph_persistence");
  DeepGraphPersistence out{};
  {
    const py::gil_scoped_release free;
    out = deep_graph_persistence(chain, {p, standardize, rescale}, execution(threads));
  }
  return py::make_tuple(out.total, out.normalized, out.peak, array(out.weights), out.constant, out.zero);
}

using Activations = std::vector<py::array_t<float, py::array::c_style>>;

py::array_t<double> table(const std::vector<std::vector<double>>& rows) {
  const auto width = static_cast<py::ssize_t>(rows.empty() ? 0 : rows.front().size());
  py::array_t<double> out({static_cast<py::ssize_t>(rows.size()), width});
  double* to = out.mutable_data();
  for (const std::vector<double>& row : rows) to = std::copy(row.begin(), row.end(), to);
  return out;
}

py::array_t<double> sample_persistence_of(const Weights& weights, const Activations& activations, bool standardize,
                                          bool joint, bool approximate, int threads) {
  constexpr const char* kName = "sample_persistence";
  const std::vector<AnyWeight> chain = chain_of(weights, kName);
  std::vector<MatrixView<const float>> inputs;
  for (const auto& x : activations) {
    NETASSAY_REQUIRE(x.ndim() == 2, ShapeError, kName, ": got activations of ", x.ndim(), " axes, expected (n, units)");
    inputs.emplace_back(x.data(), x.shape(0), x.shape(1));
  }
  std::vector<std::vector<double>> rows;
  {
    const py::gil_scoped_release free;
    rows = sample_persistence(chain, inputs, {standardize, joint, approximate}, execution(threads));
  }
  return table(rows);
}

double kendall_tau_of(const py::array_t<float, py::array::c_style>& values) {
  const std::span<const float> view(values.data(), static_cast<std::size_t>(values.size()));
  const py::gil_scoped_release free;
  return kendall_tau(view);
}

}  // namespace

void bind_persistence(py::module_& core) {
  py::module_ m = core.def_submodule("persistence", "Spanning trees of weights and what follows from them.");
  const auto threads = py::arg("threads") = 0;
  m.def("spanning_tree", &spanning_tree, py::arg("weight"), py::arg("dtype"), py::kw_only(),
        py::arg("method") = "automatic", threads, "(weights, (row, col) of each, row maxima, column maxima) of |w|.");
  m.def("largest", &largest, py::arg("weight"), py::arg("dtype"), py::kw_only(), threads, "max |w|.");
  m.def("neural_persistence", &neural_persistence_of, py::arg("tree"), py::arg("row_max"), py::arg("col_max"),
        py::kw_only(), py::arg("scale"), py::arg("p"), py::arg("essential"), py::arg("single"),
        "(total, normalized, lower bound, weights, scale, zero) of a spanning tree.");
  m.def("deep_graph_persistence", &deep_graph_persistence_of, py::arg("weights"), py::kw_only(), py::arg("p"),
        py::arg("standardize"), py::arg("rescale"), threads,
        "(total, normalized, peak, weights, constant layers, zero) of a chain of (array, dtype).");
  m.def("sample_persistence", &sample_persistence_of, py::arg("weights"), py::arg("activations"), py::kw_only(),
        py::arg("standardize"), py::arg("joint"), py::arg("approximate"), threads,
        "(samples, d_0 + d_L - 1) tree weights of every sample's bottlenecks.");
  m.def("kendall_tau", &kendall_tau_of, py::arg("values"), "Kendall's tau-b of values against their positions.");
  m.def("smirnov", &smirnov, py::call_guard<py::gil_scoped_release>(), py::arg("furthest"), py::arg("n"), py::arg("m"),
        "P(D >= furthest / (n m)) of the two-sample Kolmogorov-Smirnov statistic.");
}

}  // namespace netassay::bindings
