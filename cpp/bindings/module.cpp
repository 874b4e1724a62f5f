#include "bind.hpp"
#include "netassay/base/cpu.hpp"
#include "netassay/base/parallel.hpp"

PYBIND11_MODULE(_core, core, pybind11::mod_gil_not_used()) {
  core.doc() = "Native kernels of netassay.";
  core.attr("__version__") = NETASSAY_VERSION;
  netassay::bindings::bind_errors(core);
  core.def("thread_count", &netassay::thread_count, pybind11::arg("requested") = 0,
           "Threads that `requested` stands for here and now; 0 asks for the default.");
  core.def("isa", [] { return netassay::isa_name(netassay::isa()); }, "Instruction set that the kernels use.");
  netassay::bindings::bind_algebra(core);
  netassay::bindings::bind_complexity(core);
  netassay::bindings::bind_io(core);
  netassay::bindings::bind_network(core);
  netassay::bindings::bind_persistence(core);
  netassay::bindings::bind_saturation(core);
}
