#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/complexity.hpp"
#include "shared.hpp"

namespace netassay::bindings {
namespace {

using Labels = py::array_t<std::int64_t, py::array::c_style>;
using Window = std::tuple<std::vector<index_t>, std::vector<index_t>, std::vector<index_t>, std::vector<index_t>, bool>;

SwitchingOptions options(const std::vector<double>& thresholds, const std::optional<Window>& window, bool positions,
                         index_t classes, bool patterns, bool sums) {
  SwitchingOptions out{thresholds, {}, positions, classes, patterns, sums};
  if (window) {
    const auto& [kernel, stride, padding, dilation, ceil_mode] = *window;
    out.window = PoolWindow{kernel, stride, padding, dilation, ceil_mode};
  }
  return out;
}

template <class T>
ActivationsView<const T> activations(const py::array& x, const std::string& layout, int unit) {
  const auto size = static_cast<py::ssize_t>(sizeof(T));
  const auto axis = [&](int a) { return Axis{x.shape(a), x.strides(a) / size}; };
  ActivationsView<const T> out{static_cast<const T*>(x.data()), {}, axis(unit)};
  for (int a = 0; a < static_cast<int>(x.ndim()); ++a) {
    if (a != unit) (layout == "rows" || a == 0 ? out.samples : out.positions).push_back(axis(a));
  }
  return out;
}

/// Calls use(ActivationsView<const T>) for the T that `tag` names.
template <class Use>
void with_activations(const py::array& x, const std::string& tag, const std::string& layout, const char* function,
                      Use&& use) {
  const int unit = unit_axis(x, layout, function);
  with_rows(x, tag, unit, function, [&]<class T>(const RowsView<const T>&) { use(activations<T>(x, layout, unit)); });
}

/// Means of every sample and unit, (samples, units), or None.
std::optional<py::array_t<double>> update(Shared<Switching>& self, const py::array& x, const std::string& dtype,
                                          const std::string& layout, const std::optional<Labels>& labels, double memory,
                                          bool pooled, int threads) {
  std::optional<py::array_t<double>> means;
  with_activations(x, dtype, layout, "Switching.update", [&](const auto& a) {
    const std::int64_t* of = labels ? labels->data() : nullptr;
    if (pooled) {
      py::ssize_t samples = 1;
      for (const Axis& axis : a.samples) samples *= axis.extent;
      means.emplace(std::vector<py::ssize_t>{samples, a.units.extent});
    }
    double* const to = means ? means->mutable_data() : nullptr;
    self.locked([&](Switching& s) { s.update(a, of, execution(threads), memory, to); });
  });
  return means;
}

void merge(Shared<Switching>& self, Shared<Switching>& other) {
  const py::gil_scoped_release free;
  locked_both(self, other, [](Switching& s, const Switching& from) { s.merge(from); });
}

template <class T>
py::array_t<T> shaped(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
  auto* owned = new std::vector<T>(std::move(values));
  const py::capsule owner(owned, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(std::move(shape), owned->data(), owner);
}

py::dict counts(Shared<Switching>& self) {
  SwitchingCounts c = self.locked(&Switching::counts);
  const auto states = static_cast<py::ssize_t>(self.state.options().states() - 1);
  const auto classes = static_cast<py::ssize_t>(self.state.options().classes);
  const auto units = static_cast<py::ssize_t>(c.units), positions = static_cast<py::ssize_t>(c.positions());
  const auto words = c.patterns.empty() ? 0 : static_cast<py::ssize_t>(c.words());
  const py::ssize_t sums = self.state.options().sums ? units : 0;
  const py::ssize_t placed = self.state.options().positions && !c.shape.empty() ? units : 0;
  py::dict out;
  out["samples"] = c.samples;
  out["observations"] = c.observations;
  out["units"] = c.units;
  out["shape"] = c.shape;
  out["shape_varies"] = c.shape_varies;
  out["state"] = shaped(std::move(c.state), {states, units});
  out["zero"] = shaped(std::move(c.zero), {units});
  out["nan"] = shaped(std::move(c.nan), {units});
  out["square"] = shaped(std::move(c.square), {states, units});
  out["position"] = shaped(std::move(c.position), {states, placed, positions});
  out["class_state"] = shaped(std::move(c.class_state), {classes, states, units});
  out["class_observations"] = shaped(std::move(c.class_observations), {units == 0 ? 0 : classes});
  out["finite"] = shaped(std::move(c.finite), {sums});
  out["mean"] = shaped(std::move(c.mean), {sums});
  out["scatter"] = shaped(std::move(c.scatter), {sums});
  out["patterns"] = shaped(std::move(c.patterns), {words == 0 ? 0 : static_cast<py::ssize_t>(c.samples), words});
  return out;
}

std::unique_ptr<Shared<Switching>> from_counts(const SwitchingOptions& how, const py::dict& values) {
  const auto numbers = [&](const char* key) {
    return vector(py::cast<py::array_t<std::int64_t, py::array::c_style>>(values[key]));
  };
  SwitchingCounts c;
  c.samples = py::cast<index_t>(values["samples"]);
  c.observations = py::cast<std::int64_t>(values["observations"]);
  c.units = py::cast<index_t>(values["units"]);
  c.shape = py::cast<std::vector<index_t>>(values["shape"]);
  c.shape_varies = py::cast<bool>(values["shape_varies"]);
  c.state = numbers("state");
  c.zero = numbers("zero");
  c.nan = numbers("nan");
  c.square = numbers("square");
  c.position = numbers("position");
  c.class_state = numbers("class_state");
  c.class_observations = numbers("class_observations");
  const auto reals = [&](const char* key) {
    return vector(py::cast<py::array_t<double, py::array::c_style>>(values[key]));
  };
  c.finite = numbers("finite");
  c.mean = reals("mean");
  c.scatter = reals("scatter");
  c.patterns = vector(py::cast<py::array_t<std::uint64_t, py::array::c_style>>(values["patterns"]));
  return std::make_unique<Shared<Switching>>(Switching::from_counts(how, std::move(c)));
}

}  // namespace

void bind_complexity(py::module_& core) {
  py::module_ m = core.def_submodule("complexity", "How often units switch.");
  const auto threads = py::arg("threads") = 0;

  py::class_<Shared<Switching>>(m, "Switching", "Counts of states, mergeable.")
      .def(py::init([](const std::vector<double>& thresholds, const std::optional<Window>& window, bool positions,
                       index_t classes, bool patterns, bool sums) {
             return std::make_unique<Shared<Switching>>(
                 Switching(options(thresholds, window, positions, classes, patterns, sums)));
           }),
           py::kw_only(), py::arg("thresholds"), py::arg("window"), py::arg("positions"), py::arg("classes"),
           py::arg("patterns"), py::arg("sums"))
      .def("update", &update, py::arg("x"), py::arg("dtype"), py::kw_only(), py::arg("layout"), py::arg("labels"),
           py::arg("memory"), py::arg("pooled") = false, threads)
      .def("merge", &merge, py::arg("other"))
      .def("clear", [](Shared<Switching>& s) { s.locked(&Switching::clear); })
      .def(
          "keeps_positions",
          [](Shared<Switching>& s, const std::vector<index_t>& shape) {
            return s.locked([&](Switching& x) { return x.keeps_positions(shape); });
          },
          py::arg("shape"))
      .def("forget_positions", [](Shared<Switching>& s) { s.locked(&Switching::forget_positions); })
      .def("copy", &Shared<Switching>::copy)
      .def_property_readonly(
          "samples", [](Shared<Switching>& s) { return s.locked([](Switching& x) { return x.counts().samples; }); })
      .def_property_readonly(
          "units", [](Shared<Switching>& s) { return s.locked([](Switching& x) { return x.counts().units; }); })
      .def_property_readonly("states", [](Shared<Switching>& s) { return s.state.options().states(); })
      .def_property_readonly("nbytes", [](Shared<Switching>& s) { return s.locked(&Switching::bytes); })
      .def("channel_bits", [](Shared<Switching>& s) { return array(s.locked(&Switching::channel_bits)); })
      .def("position_bits", [](Shared<Switching>& s) { return array(s.locked(&Switching::position_bits)); })
      .def("counts", &counts)
      .def_static(
          "from_counts",
          [](const std::vector<double>& thresholds, const std::optional<Window>& window, bool positions,
             index_t classes, bool patterns, bool sums, const py::dict& values) {
            return from_counts(options(thresholds, window, positions, classes, patterns, sums), values);
          },
          py::kw_only(), py::arg("thresholds"), py::arg("window"), py::arg("positions"), py::arg("classes"),
          py::arg("patterns"), py::arg("sums"), py::arg("counts"));

  m.def(
      "footprint",
      [](const std::vector<double>& thresholds, const std::optional<Window>& window, bool positions, index_t classes,
         bool patterns, bool sums, index_t units, const std::vector<index_t>& shape, index_t samples) {
        const SwitchingOptions how = options(thresholds, window, positions, classes, patterns, sums);
        index_t all = 1;
        for (const index_t extent : window ? how.window->outputs(shape) : shape) all *= extent;
        return Switching::footprint(how, units, all, samples);
      },
      py::kw_only(), py::arg("thresholds"), py::arg("window"), py::arg("positions"), py::arg("classes"),
      py::arg("patterns"), py::arg("sums"), py::arg("units"), py::arg("shape"), py::arg("samples"),
      "Bytes a state of these units and positions comes to take.");
}

}  // namespace netassay::bindings
