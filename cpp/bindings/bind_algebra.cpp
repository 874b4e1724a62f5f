#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/algebra.hpp"
#include "netassay/graph/dag.hpp"

namespace netassay::bindings {
namespace {

template <class T>
using Plain = py::array_t<T, py::array::c_style>;
using Indices = Plain<std::int64_t>;
using Numbers = Plain<double>;
using Some = std::optional<Indices>;

template <class T>
std::span<const T> span(const Plain<T>& x) {
  return {x.data(), static_cast<std::size_t>(x.size())};
}

NodeList list(const Some& nodes) { return nodes ? NodeList(span(*nodes)) : std::nullopt; }

/// What every function takes first: the graph.
struct Edges {
  index_t nodes;
  std::span<const std::int64_t> from, to;
  Dag dag(const Execution& execution) const { return Dag(nodes, from, to, execution); }
};

/// use(dag, execution) without the GIL.
template <class Use>
auto with_dag(const Edges& edges, Use&& use) {
  const Execution poll = execution(1);
  const py::gil_scoped_release free;
  return use(edges.dag(poll), poll);
}

py::list integers(const std::vector<Natural>& values) {
  py::list out;
  for (const Natural& value : values) out.append(py::bytes(value.bytes()));
  return out;
}

py::array_t<double> path_sums(index_t nodes, const Indices& from, const Indices& to, const Numbers& gains,
                              const std::string& semiring, const Some& sources, const Indices& products) {
  const NodeList starts = list(sources);
  return array(with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    if (semiring == "log2_sum") return log2_path_sums(dag, span(gains), starts, span(products), poll);
    if (semiring == "longest") return longest_paths(dag, span(gains), starts, poll);
    if (semiring == "shortest") return shortest_paths(dag, span(gains), starts, poll);
    if (semiring == "widest") return widest_paths(dag, span(gains), starts, poll);
    detail::fail<ValueError>("path_sums: got semiring '", semiring,
                             "', expected log2_sum, longest, shortest or widest");
  }));
}

py::array_t<double> path_shares_of(index_t nodes, const Indices& from, const Indices& to, const Numbers& gains,
                                   const Some& sources, const Indices& products, const Some& targets) {
  const NodeList starts = list(sources), wanted = list(targets);
  return array(with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    return path_shares(dag, span(gains), starts, span(products), wanted, poll);
  }));
}

py::list path_counts_of(index_t nodes, const Indices& from, const Indices& to, const Plain<std::uint64_t>& gains,
                        const Some& sources, const Some& targets) {
  const NodeList starts = list(sources), wanted = list(targets);
  return integers(with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    return path_counts(dag, span(gains), starts, wanted, poll);
  }));
}

py::list path_lengths_of(index_t nodes, const Indices& from, const Indices& to, const Plain<std::uint32_t>& gains,
                         const Some& sources, const Some& targets) {
  const NodeList starts = list(sources), wanted = list(targets);
  const auto found = with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    return path_lengths(dag, span(gains), starts, wanted, poll);
  });
  py::list out;
  for (const std::vector<Natural>& counts : found) out.append(integers(counts));
  return out;
}

py::tuple receptive_fields_of(index_t nodes, const Indices& from, const Indices& to, const Numbers& extents,
                              const Numbers& strides, const Some& sources) {
  const NodeList starts = list(sources);
  const ReceptiveFields out = with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    return receptive_fields(dag, span(extents), span(strides), starts, poll);
  });
  return py::make_tuple(array(out.size), array(out.stride), array(out.consistent));
}

py::tuple minimum_vertex_cut_of(index_t nodes, const Indices& from, const Indices& to, const Indices& capacities,
                                std::int64_t target, const Some& sources) {
  const NodeList starts = list(sources);
  const VertexCut out = with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    return minimum_vertex_cut(dag, span(capacities), starts, target, poll);
  });
  return py::make_tuple(out.value, array(out.nodes));
}

py::array_t<std::int64_t> minimum_vertex_cuts_of(index_t nodes, const Indices& from, const Indices& to,
                                                 const Indices& capacities, const Some& sources) {
  const NodeList starts = list(sources);
  return array(with_dag({nodes, span(from), span(to)}, [&](const Dag& dag, const Execution& poll) {
    return minimum_vertex_cuts(dag, span(capacities), starts, poll);
  }));
}

}  // namespace

void bind_algebra(py::module_& core) {
  py::module_ m = core.def_submodule("algebra", "Sums over the paths of graphs, vertex cuts, and sums of binomials.");
  const auto nodes = py::arg("nodes"), tails = py::arg("tails"), heads = py::arg("heads"), gains = py::arg("gains"),
             sources = py::arg("sources"), products = py::arg("products"), targets = py::arg("targets");
  const py::kw_only named;
  m.def("path_sums", &path_sums, nodes, tails, heads, gains, named, py::arg("semiring"), sources, products,
        "(nodes) sums over paths in a semiring of doubles.");
  m.def("path_shares", &path_shares_of, nodes, tails, heads, gains, named, sources, products, targets,
        "(edges) shares of the log2 sum over all paths to the targets.");
  m.def("path_counts", &path_counts_of, nodes, tails, heads, gains, named, sources, targets,
        "Paths to each target, as little-endian bytes.");
  m.def("path_lengths", &path_lengths_of, nodes, tails, heads, gains, named, sources, targets,
        "Of each target, the paths of length 0, 1, ..., as little-endian bytes.");
  m.def("receptive_fields", &receptive_fields_of, nodes, tails, heads, py::arg("extents"), py::arg("strides"), named,
        sources, "(sizes, strides, whether they agree) of every node.");
  m.def("minimum_vertex_cut", &minimum_vertex_cut_of, nodes, tails, heads, py::arg("capacities"), py::arg("target"),
        named, sources, "(value, nodes) of the cut between the sources and a node.");
  m.def("minimum_vertex_cuts", &minimum_vertex_cuts_of, nodes, tails, heads, py::arg("capacities"), named, sources,
        "(nodes) values of the cuts between the sources and each node.");
  m.def("log2_binomial_sum", &log2_binomial_sum, py::arg("n"), py::arg("k"), "log2 of sum_{j <= k} C(n, j).");
  m.def(
      "log2_montufar_bound", [](const std::vector<index_t>& widths) { return log2_montufar_bound(widths); },
      py::arg("widths"), "log2 of the product of the layers' sums of binomials.");
}

}  // namespace netassay::bindings
