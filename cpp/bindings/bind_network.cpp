#include <pybind11/stl.h>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/network.hpp"

namespace netassay::bindings {
namespace {

/// (array, dtype tag) of each part.
using Weights = std::vector<std::pair<py::array, std::string>>;

LinkSurvey survey(const py::array& w, const std::string& dtype, const LinkOptions& options, int threads) {
  LinkSurvey out;
  with_matrix(w, dtype, options.function, [&](const auto& matrix) {
    const py::gil_scoped_release free;
    out = link_survey(matrix, options, execution(threads));
  });
  return out;
}

py::tuple described(const LinkStatistics& links, const std::vector<double>& shares) {
  std::vector<double> quantiles;
  for (const double q : shares) quantiles.push_back(links.quantile(q));
  return py::make_tuple(links.count, links.mean(), links.variance(), links.skewness(), links.kurtosis(), links.minimum,
                        links.maximum, links.zeros, array(quantiles), array(links.density));
}

py::tuple described(const LinkSums& rows, const LinkSums& columns) {
  return py::make_tuple(array(rows.sum), array(rows.absolute), array(rows.square), array(columns.sum),
                        array(columns.absolute), array(columns.square));
}

py::tuple link_weights(const Weights& parts, const std::vector<double>& quantiles, int threads) {
  LinkStatistics all;
  for (const auto& [part, dtype] : parts) {
    all.merge(survey(part, dtype, {.sums = false, .function = "link_weights"}, threads).statistics);
  }
  return described(all, quantiles);
}

py::tuple sums(const py::array& w, const std::string& dtype, int threads) {
  const LinkSurvey out = survey(w, dtype, {.statistics = false, .function = "sums"}, threads);
  return described(out.rows, out.columns);
}

py::tuple link_survey_of(const py::array& w, const std::string& dtype, const std::vector<double>& quantiles,
                         int threads) {
  const LinkSurvey out = survey(w, dtype, {}, threads);
  return py::make_tuple(described(out.statistics, quantiles), described(out.rows, out.columns));
}

py::array_t<double> grid() {
  const std::span<const double> edges = link_grid();
  return array(std::vector<double>(edges.begin(), edges.end()));
}

}  // namespace

void bind_network(py::module_& core) {
  py::module_ m = core.def_submodule("network", "Statistics and sums of link weights.");
  const auto threads = py::arg("threads") = 0;
  m.def("link_weights", &link_weights, py::arg("weights"), py::kw_only(), py::arg("quantiles"), threads,
        "(count, mean, variance, skewness, kurtosis, minimum, maximum, zeros, quantiles, density) of (array, dtype)s.");
  m.def("sums", &sums, py::arg("weight"), py::arg("dtype"), py::kw_only(), threads,
        "Sums of w, |w| and w^2 of every row, then of every column.");
  m.def("link_survey", &link_survey_of, py::arg("weight"), py::arg("dtype"), py::kw_only(), py::arg("quantiles"),
        threads, "(link_weights, sums) of one read.");
  m.def("grid", &grid, "Edges of the density.");
}

}  // namespace netassay::bindings
