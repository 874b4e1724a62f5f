#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/saturation.hpp"
#include "shared.hpp"

namespace netassay::bindings {
namespace {

using Rows = py::array_t<double, py::array::c_style>;

Precision precision(const std::string& name) {
  NETASSAY_REQUIRE(name == "high" || name == "exact", ValueError, "Moments: got precision '", name,
                   "', expected 'high' or 'exact'");
  return name == "high" ? Precision::high : Precision::exact;
}

void update(Shared<Moments>& self, const py::array& x, const std::string& dtype, const std::string& layout,
            const std::optional<py::array_t<bool, py::array::c_style>>& mask, index_t samples, bool poll, int threads) {
  constexpr const char* kName = "Moments.update";
  const int unit = unit_axis(x, layout, kName);
  NETASSAY_REQUIRE(x.size() > 0, ShapeError, kName, ": got an empty array of shape ",
                   std::string(py::str(x.attr("shape"))), ", expected at least one row of ", self.state.width(),
                   " units");
  with_rows(x, dtype, unit, kName, [&](const auto& rows) {
    const unsigned char* kept = nullptr;
    if (mask) {
      NETASSAY_REQUIRE(mask->size() == rows.rows(), ShapeError, kName, ": got a mask of ", mask->size(),
                       " rows, expected ", rows.rows());
      kept = reinterpret_cast<const unsigned char*>(mask->data());
    }
    self.locked([&](Moments& m) { m.update(rows, kept, poll ? execution(threads) : Execution{threads, {}}, samples); });
  });
}

using Pairs = std::vector<std::pair<Shared<Moments>*, Shared<Moments>*>>;

// Merges each pair's second into its first, without asking for signals in between.
void merge_all(const Pairs& pairs, int threads) {
  const py::gil_scoped_release free;
  for (const auto& [state, other] : pairs) {
    locked_both(*state, *other, [&](Moments& m, const Moments& from) { m.merge(from, {threads, {}}); });
  }
}

py::dict parts(Shared<Moments>& self) {
  Moments::Parts p = self.locked(&Moments::parts);
  const auto d = static_cast<py::ssize_t>(p.width);
  const auto matrix = [d](auto&& values) {
    const auto rows = static_cast<py::ssize_t>(values.size()) / d;
    return array(std::move(values), rows, d);
  };
  py::dict out;
  out["folded"] = p.folded;
  out["nonfinite"] = p.nonfinite;
  out["samples"] = p.samples;
  out["single"] = p.single;
  out["fourth"] = p.fourth;
  out["pivot"] = array(p.pivot);
  out["offset"] = array(p.offset);
  out["third"] = array(p.third);
  out["scatter"] = matrix(std::move(p.scatter));
  out["waiting_narrow"] = matrix(std::move(p.waiting_narrow));
  out["waiting_wide"] = matrix(std::move(p.waiting_wide));
  return out;
}

std::unique_ptr<Shared<Moments>> from_parts(index_t width, const std::string& precision_name, bool fourth,
                                            const py::dict& values) {
  const auto numbers = [&](const char* key) { return vector(py::cast<Rows>(values[key])); };
  Moments::Parts p;
  p.width = width;
  p.options.precision = precision(precision_name);
  p.options.fourth = fourth;
  p.folded = py::cast<index_t>(values["folded"]);
  p.nonfinite = py::cast<index_t>(values["nonfinite"]);
  p.samples = py::cast<index_t>(values["samples"]);
  p.single = py::cast<index_t>(values["single"]);
  p.fourth = py::cast<double>(values["fourth"]);
  p.pivot = numbers("pivot");
  p.offset = numbers("offset");
  p.third = numbers("third");
  p.scatter = numbers("scatter");
  p.waiting_narrow = vector(py::cast<py::array_t<float, py::array::c_style>>(values["waiting_narrow"]));
  p.waiting_wide = numbers("waiting_wide");
  return std::make_unique<Shared<Moments>>(Moments::from_parts(p));
}

py::tuple saturation_of(std::vector<double> eigenvalues, double delta) {
  const Saturation s = saturation(std::move(eigenvalues), delta);
  return py::make_tuple(s.value, s.dimension, s.constant);
}

py::tuple effective_dimension_of(const std::vector<double>& eigenvalues) {
  const EffectiveDimension e = effective_dimension(eigenvalues);
  return py::make_tuple(e.value, e.participation_ratio, e.stable_rank, e.effective_rank, e.constant);
}

}  // namespace

void bind_saturation(py::module_& core) {
  py::module_ m = core.def_submodule("saturation", "Streaming moments and the statistics of their spectrum.");
  const auto threads = py::arg("threads") = 0;

  py::class_<Shared<Moments>>(m, "Moments", "Streaming mean and scatter matrix of rows.")
      .def(py::init([](index_t width, const std::string& name, bool fourth, double memory) {
             return std::make_unique<Shared<Moments>>(Moments(width, {precision(name), fourth, memory}));
           }),
           py::arg("width"), py::kw_only(), py::arg("precision"), py::arg("fourth"), py::arg("memory"))
      .def("update", &update, py::arg("x"), py::arg("dtype"), py::kw_only(), py::arg("layout"),
           py::arg("mask") = py::none(), py::arg("samples") = -1, py::arg("poll") = true, threads)
      .def(
          "merge", [](Shared<Moments>& s, Shared<Moments>& other, int n) { merge_all({{&s, &other}}, n); },
          py::arg("other"), py::kw_only(), threads)
      .def("clear", [](Shared<Moments>& s) { s.locked(&Moments::clear); })
      .def("copy", &Shared<Moments>::copy)
      .def_property_readonly("width", [](Shared<Moments>& s) { return s.state.width(); })
      .def_property_readonly(
          "precision",
          [](Shared<Moments>& s) { return s.state.options().precision == Precision::high ? "high" : "exact"; })
      .def_property_readonly("keeps_fourth", [](Shared<Moments>& s) { return s.state.options().fourth; })
      .def_property_readonly("count", [](Shared<Moments>& s) { return s.locked(&Moments::count); })
      .def_property_readonly("nonfinite", [](Shared<Moments>& s) { return s.locked(&Moments::nonfinite); })
      .def_property_readonly("samples", [](Shared<Moments>& s) { return s.locked(&Moments::samples); })
      .def_property_readonly("single", [](Shared<Moments>& s) { return s.locked(&Moments::single); })
      .def_property_readonly("nbytes", [](Shared<Moments>& s) { return s.locked(&Moments::bytes); })
      .def("mean", [](Shared<Moments>& s) { return array(s.locked(&Moments::mean)); })
      .def(
          "scatter",
          [](Shared<Moments>& s, int n) {
            return array(s.locked([&](Moments& x) { return x.scatter(execution(n)); }));
          },
          py::kw_only(), threads)
      .def(
          "covariance",
          [](Shared<Moments>& s, index_t ddof, int n) {
            return array(s.locked([&](Moments& x) { return x.covariance(ddof, execution(n)); }));
          },
          py::arg("ddof"), py::kw_only(), threads)
      .def(
          "fourth",
          [](Shared<Moments>& s, int n) { return s.locked([&](Moments& x) { return x.fourth(execution(n)); }); },
          py::kw_only(), threads)
      .def("parts", &parts)
      .def_static("from_parts", &from_parts, py::arg("width"), py::kw_only(), py::arg("precision"), py::arg("fourth"),
                  py::arg("parts"));

  m.def("merge_all", &merge_all, py::arg("pairs"), py::kw_only(), threads, "Merges each pair's second into its first.");
  m.def(
      "footprint",
      [](index_t width, const std::string& name, bool fourth) {
        return Moments::footprint(width, {precision(name), fourth});
      },
      py::arg("width"), py::kw_only(), py::arg("precision"), py::arg("fourth"),
      "Bytes a state of this width comes to take.");
  m.def("saturation", &saturation_of, py::arg("eigenvalues"), py::kw_only(), py::arg("delta"),
        "(value, dimension, constant) of descending eigenvalues.");
  m.def("effective_dimension", &effective_dimension_of, py::arg("eigenvalues"),
        "(value, participation ratio, stable rank, effective rank, constant) of descending eigenvalues.");
  m.def("corrected_participation_ratio", &corrected_participation_ratio, py::arg("eigenvalues"), py::kw_only(),
        py::arg("n"), py::arg("fourth"), "Unbiased parts' ratio, or None.");
}

}  // namespace netassay::bindings
