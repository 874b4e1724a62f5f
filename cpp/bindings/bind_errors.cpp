#include <exception>
#include <string>

#include "bind.hpp"
#include "netassay/base/error.hpp"

namespace netassay::bindings {
namespace {

namespace py = pybind11;

// Python's exception types, made once and kept for the life of the process.
struct Types {
  PyObject *base, *shape, *dtype, *layout, *value, *too_few, *nonfinite, *limit, *fork, *corrupt;
};
Types types;

PyObject* make(py::module_& core, const char* name, PyObject* also, const char* doc) {
  const py::object bases = types.base ? py::object(py::make_tuple(py::handle(types.base), py::handle(also)))
                                      : py::reinterpret_borrow<py::object>(also);
  const std::string qualified = std::string("netassay.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(qualified.c_str(), doc, bases.ptr(), nullptr);
  if (!type) throw py::error_already_set();
  core.add_object(name, type);
  return type;
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const ShapeError& e) {
    PyErr_SetString(types.shape, e.what());
  } catch (const DTypeError& e) {
    PyErr_SetString(types.dtype, e.what());
  } catch (const LayoutError& e) {
    PyErr_SetString(types.layout, e.what());
  } catch (const TooFewRows& e) {
    PyErr_SetString(types.too_few, e.what());
  } catch (const NonFinite& e) {
    PyErr_SetString(types.nonfinite, e.what());
  } catch (const LimitExceeded& e) {
    PyErr_SetString(types.limit, e.what());
  } catch (const ForkError& e) {
    PyErr_SetString(types.fork, e.what());
  } catch (const CorruptCheckpoint& e) {
    PyErr_SetString(types.corrupt, e.what());
  } catch (const FileError& e) {
    // OSError makes the subclass that the number stands for.
    const py::object error = py::reinterpret_borrow<py::object>(PyExc_OSError)(e.code(), e.what());
    PyErr_SetObject(PyExceptionInstance_Class(error.ptr()), error.ptr());
  } catch (const ValueError& e) {
    PyErr_SetString(types.value, e.what());
  } catch (const Error& e) {
    PyErr_SetString(types.base, e.what());
  }
}

}  // namespace

void bind_errors(py::module_& core) {
  types = {};
  types.base = make(core, "NetassayError", PyExc_Exception, "Every error that netassay raises by itself.");
  types.shape = make(core, "ShapeError", PyExc_ValueError, "Sizes that do not fit together.");
  types.dtype = make(core, "DTypeError", PyExc_TypeError, "A number format that is not taken.");
  types.layout = make(core, "LayoutError", PyExc_ValueError, "Axes that do not mean what the call needs.");
  types.value = make(core, "DomainError", PyExc_ValueError, "A value outside its domain.");
  types.too_few = make(core, "TooFewRows", PyExc_ValueError, "Fewer rows than the statistic needs.");
  types.nonfinite = make(core, "NonFinite", PyExc_ValueError, "NaN or infinity where none may be.");
  types.limit = make(core, "LimitExceeded", PyExc_MemoryError, "A memory budget would be passed.");
  types.fork = make(core, "ForkError", PyExc_RuntimeError, "Several threads asked for in a forked child.");
  types.corrupt = make(core, "CorruptCheckpoint", PyExc_ValueError, "A checkpoint that contradicts itself.");
  make(core, "UnsupportedLayout", PyExc_TypeError, "A tensor that is not a plain dense array in memory.");
  make(core, "NothingObserved", PyExc_RuntimeError, "A watch that saw no activation.");
  make(core, "SelectionError", PyExc_ValueError, "A layer name or pattern that matches nothing.");
  make(core, "StateError", PyExc_ValueError, "A state file that is damaged, or of another kind or configuration.");
  py::register_local_exception_translator(translate);
}

}  // namespace netassay::bindings
