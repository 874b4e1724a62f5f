#pragma once
/// Arrays as they cross from Python: a numpy array and a dtype tag in, views out. All dispatch on dtype is here.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"

namespace netassay::bindings {

namespace py = pybind11;

/// Which axis holds the units; every other axis is an axis of rows.
inline int unit_axis(const py::array& x, const std::string& layout, const char* function) {
  const int axes = static_cast<int>(x.ndim());
  const bool channels_first = layout == "channels_first";
  NETASSAY_REQUIRE(channels_first || layout == "rows" || layout == "channels_last", LayoutError, function,
                   ": got layout '", layout, "', expected 'rows', 'channels_first' or 'channels_last'");
  NETASSAY_REQUIRE(axes >= 1, ShapeError, function, ": got a scalar, expected at least one axis");
  NETASSAY_REQUIRE(!channels_first || axes >= 2, LayoutError, function,
                   ": got a 1-d array with layout 'channels_first', expected (n, channels, ...)");
  NETASSAY_REQUIRE(axes <= RowsView<const float>::kMaxAxes + 1, ShapeError, function, ": got ", axes,
                   " axes, expected at most ", RowsView<const float>::kMaxAxes + 1);
  return channels_first ? 1 : axes - 1;
}

template <class T>
RowsView<const T> rows_view(const py::array& x, int unit) {
  const auto size = static_cast<py::ssize_t>(sizeof(T));
  std::array<Axis, RowsView<const T>::kMaxAxes> rows;
  int count = 0;
  for (int a = 0; a < static_cast<int>(x.ndim()); ++a) {
    if (a != unit) rows[static_cast<std::size_t>(count++)] = {x.shape(a), x.strides(a) / size};
  }
  return {static_cast<const T*>(x.data()), rows.data(), count, {x.shape(unit), x.strides(unit) / size}};
}

/// Calls use(RowsView<const T>) for the T that `tag` names: "float64", "float32", "bfloat16", "float16".
template <class Use>
void with_rows(const py::array& x, const std::string& tag, int unit, const char* function, Use&& use) {
  if (tag == "float64") return use(rows_view<double>(x, unit));
  if (tag == "float32") return use(rows_view<float>(x, unit));
  if (tag == "bfloat16") return use(rows_view<bf16>(x, unit));
  if (tag == "float16") return use(rows_view<f16>(x, unit));
  detail::fail<DTypeError>(function, ": got dtype ", tag, ", expected float64, float32, bfloat16 or float16");
}

template <class T>
MatrixView<const T> matrix_view(const py::array& x) {
  const auto size = static_cast<py::ssize_t>(sizeof(T));
  return {static_cast<const T*>(x.data()), x.shape(0), x.shape(1), x.strides(0) / size, x.strides(1) / size};
}

/// Calls use(MatrixView<const T>) for the weight format T that `tag` names:
/// what activations come in, 8-bit floats and 8-bit integers.
template <class Use>
void with_matrix(const py::array& x, const std::string& tag, const char* function, Use&& use) {
  NETASSAY_REQUIRE(x.ndim() == 2, ShapeError, function, ": got ", x.ndim(), " axes, expected (out, in)");
  if (tag == "float64") return use(matrix_view<double>(x));
  if (tag == "float32") return use(matrix_view<float>(x));
  if (tag == "bfloat16") return use(matrix_view<bf16>(x));
  if (tag == "float16") return use(matrix_view<f16>(x));
  if (tag == "float8_e4m3fn") return use(matrix_view<f8e4m3>(x));
  if (tag == "float8_e5m2") return use(matrix_view<f8e5m2>(x));
  if (tag == "int8") return use(matrix_view<std::int8_t>(x));
  if (tag == "uint8") return use(matrix_view<std::uint8_t>(x));
  detail::fail<DTypeError>(function, ": got dtype ", tag, ", expected a float of 64, 32, 16 or 8 bits, int8 or uint8");
}

/// Lets Ctrl-C stop a long computation: asks Python at most every 50 ms whether a signal is waiting.
class SignalPoll {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(50);
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
};

inline Execution execution(int threads) { return {threads, SignalPoll{}}; }

template <class T>
py::array_t<T> array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

/// The vector becomes the array's storage; nothing is copied.
template <class T>
py::array_t<T> array(std::vector<T>&& values, py::ssize_t rows, py::ssize_t cols) {
  auto* owned = new std::vector<T>(std::move(values));
  const py::capsule owner(owned, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>({rows, cols}, owned->data(), owner);
}

inline py::array_t<double> array(SquareMatrix&& matrix) {
  const index_t d = matrix.d;
  return array(std::move(matrix.values), d, d);
}

template <class T>
std::vector<T> vector(const py::array_t<T, py::array::c_style>& values) {
  return {values.data(), values.data() + values.size()};
}

}  // namespace netassay::bindings
