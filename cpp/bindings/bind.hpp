#pragma once
/// One registration per topic; module.cpp is their index.

#include <pybind11/pybind11.h>

namespace netassay::bindings {

void bind_algebra(pybind11::module_& core);
void bind_complexity(pybind11::module_& core);
void bind_errors(pybind11::module_& core);
void bind_io(pybind11::module_& core);
void bind_network(pybind11::module_& core);
void bind_persistence(pybind11::module_& core);
void bind_saturation(pybind11::module_& core);

}  // namespace netassay::bindings
