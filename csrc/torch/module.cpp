// The Python module zdce._C. Importing it registers the kernels under torch.ops.zdce_cpp, whose schemas Python defines.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <exception>

#include "../core/engine/amx.h"
#include "../core/isa.h"

namespace {

PyObject* isa(PyObject*, PyObject*) {
  try {
    return PyUnicode_FromString(zdce::isa_name(zdce::isa()));
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}

PyObject* has_bfloat16(PyObject*, PyObject*) { return PyBool_FromLong(zdce::engine::can_run_bfloat16()); }

PyMethodDef methods[] = {
    {"isa", isa, METH_NOARGS, "The instruction set that the kernels run with: default, avx2 or avx512."},
    {"has_bfloat16", has_bfloat16, METH_NOARGS, "Whether the engine can run networks in bfloat16 here."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
