#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/network.hpp"
#include "shared.hpp"

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
  const LinkSurvey out = survey(w, dtype, {.function = "survey"}, threads);
  return py::make_tuple(described(out.statistics, quantiles), described(out.rows, out.columns));
}

py::array_t<double> grid() {
  const std::span<const double> edges = link_grid();
  return array(std::vector<double>(edges.begin(), edges.end()));
}

void update(Shared<Distribution>& self, const py::array& x, const std::string& dtype, int threads) {
  constexpr const char* kName = "Distribution.update";
  with_rows(x, dtype, unit_axis(x, "rows", kName), kName, [&](const auto& rows) {
    self.locked([&](Distribution& values) { values.update(rows, execution(threads)); });
  });
}

void merge(Shared<Distribution>& self, Shared<Distribution>& other) {
  const Distribution theirs = other.locked([](Distribution& values) { return values; });
  self.locked([&](Distribution& values) { values.merge(theirs); });
}

py::tuple described(Shared<Distribution>& self, const std::vector<double>& quantiles) {
  const LinkStatistics values = self.locked(&Distribution::statistics);
  return described(values, quantiles);
}

py::tuple parts(Shared<Distribution>& self) {
  const Distribution::Parts p = self.locked(&Distribution::parts);
  const LinkStatistics& t = p.totals;
  const auto whole = [](std::uint64_t count) { return static_cast<std::int64_t>(count); };
  const std::vector<std::int64_t> counts{whole(t.count),     whole(t.zeros), whole(p.positives),
                                         whole(p.nonfinite), t.exponent,     p.narrow};
  const std::vector<double> moments{t.scaled_mean, t.scaled_rest, t.second, t.third, t.fourth, t.minimum, t.maximum};
  return py::make_tuple(array(counts), array(moments), array(p.keys), array(p.counts));
}

using Counts = py::array_t<std::int64_t, py::array::c_style>;

std::unique_ptr<Shared<Distribution>> from_parts(const Counts& counts,
                                                 const py::array_t<double, py::array::c_style>& moments,
                                                 const Counts& keys, const Counts& times) {
  NETASSAY_REQUIRE(counts.size() == 6 && moments.size() == 7, ShapeError, "Distribution.from_parts: got ",
                   counts.size(), " counts and ", moments.size(), " moments, expected 6 and 7");
  const std::vector<std::int64_t> n = vector(counts);
  const std::vector<double> m = vector(moments);
  for (const std::size_t k : {0, 1, 2, 3}) {
    NETASSAY_REQUIRE(n[k] >= 0, ValueError, "Distribution.from_parts: got count ", n[k], ", expected at least 0");
  }
  const auto whole = [&](std::size_t k) { return static_cast<std::uint64_t>(n[k]); };
  Distribution::Parts p;
  p.totals.count = whole(0), p.totals.zeros = whole(1), p.positives = whole(2), p.nonfinite = whole(3);
  p.totals.exponent = static_cast<int>(std::clamp<std::int64_t>(n[4], -9999, 9999)), p.narrow = n[5] != 0;
  p.totals.scaled_mean = m[0], p.totals.scaled_rest = m[1];
  p.totals.second = m[2], p.totals.third = m[3], p.totals.fourth = m[4];
  p.totals.minimum = m[5], p.totals.maximum = m[6];
  p.keys = vector(keys), p.counts = vector(times);
  return std::make_unique<Shared<Distribution>>(Distribution::from_parts(p));
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
  py::class_<Shared<Distribution>>(m, "Distribution", "Values that stream by.")
      .def(py::init<>())
      .def("update", &update, py::arg("x"), py::arg("dtype"), py::kw_only(), threads)
      .def("merge", &merge, py::arg("other"))
      .def("clear", [](Shared<Distribution>& s) { s.locked([](Distribution& d) { d = {}; }); })
      .def("copy", &Shared<Distribution>::copy)
      .def_property_readonly("count", [](Shared<Distribution>& s) { return s.locked(&Distribution::count); })
      .def_property_readonly("nonfinite", [](Shared<Distribution>& s) { return s.locked(&Distribution::nonfinite); })
      .def_property_readonly("positives", [](Shared<Distribution>& s) { return s.locked(&Distribution::positives); })
      .def_property_readonly("nbytes", [](Shared<Distribution>& s) { return s.locked(&Distribution::bytes); })
      .def("result", py::overload_cast<Shared<Distribution>&, const std::vector<double>&>(&described), py::kw_only(),
           py::arg("quantiles"))
      .def("parts", &parts)
      .def_static("from_parts", &from_parts, py::arg("totals"), py::arg("moments"), py::arg("keys"), py::arg("counts"));
  m.def("grid", &grid, "Edges of the density.");
}

}  // namespace netassay::bindings
