#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "bind.hpp"
#include "convert.hpp"
#include "netassay/io/read.hpp"
#include "netassay/io/safetensors.hpp"

namespace netassay::bindings {
namespace {

SafetensorsHeader header(std::string text, std::uint64_t data_bytes, const std::string& context) {
  const py::gil_scoped_release free;
  return {std::move(text), data_bytes, context};
}

SafetensorsHeader read_header(int file, std::uint64_t most, const std::string& context) {
  const py::gil_scoped_release free;
  return read_safetensors_header(file, most, context);
}

py::tuple entry(const SafetensorsHeader& header, index_t i) {
  if (i < 0 || i >= header.size()) throw py::index_error("SafetensorsHeader: got tensor " + std::to_string(i));
  SafetensorsEntry e = header.entry(i);
  py::tuple shape(e.shape.size());
  for (std::size_t axis = 0; axis < e.shape.size(); ++axis) shape[axis] = py::int_(e.shape[axis]);
  return py::make_tuple(std::move(e.name), e.dtype, std::move(shape), e.begin, e.end);
}

void read_into(int file, std::uint64_t offset, py::array& out, int threads, const std::string& context) {
  NETASSAY_REQUIRE(out.writeable(), ValueError, context, ": got a read-only array to read into");
  NETASSAY_REQUIRE((out.flags() & py::array::c_style) != 0 && out.itemsize() == 1, LayoutError, context,
                   ": got an array to read into that is no contiguous row of bytes");
  auto* bytes = static_cast<unsigned char*>(out.mutable_data());
  const auto size = static_cast<std::uint64_t>(out.nbytes());
  const py::gil_scoped_release free;
  read_at(file, offset, bytes, size, execution(threads), context);
}

}  // namespace

void bind_io(py::module_& core) {
  py::module_ m = core.def_submodule("io", "Files read by position, and what a safetensors header says.");

  py::class_<SafetensorsHeader>(m, "SafetensorsHeader", "The header of a safetensors file, checked as a whole.")
      .def(py::init(&header), py::arg("text"), py::arg("data_bytes"), py::kw_only(), py::arg("context"))
      .def_property_readonly("data_begin", &SafetensorsHeader::data_begin)
      .def_property_readonly("data_bytes", &SafetensorsHeader::data_bytes)
      .def("__len__", &SafetensorsHeader::size)
      .def("entry", &entry, py::arg("i"), "(name, dtype tag, shape, begin, end), in storage order.")
      .def("find", &SafetensorsHeader::find, py::arg("name"), "Where in storage order, or -1.")
      .def("metadata", &SafetensorsHeader::metadata, "Pairs of texts, as the header lists them.");

  m.def("read_header", &read_header, py::arg("file"), py::kw_only(), py::arg("most") = SafetensorsHeader::kMaxBytes,
        py::arg("context"), "Reads and checks the header of an open file.");
  m.def("read_into", &read_into, py::arg("file"), py::arg("offset"), py::arg("out"), py::kw_only(),
        py::arg("threads") = 0, py::arg("context"), "Reads the bytes from offset on that fill out.");
}

}  // namespace netassay::bindings
