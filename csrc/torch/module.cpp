// The Python module zdce._C. Importing it registers the kernels under torch.ops.zdce_cpp, whose schemas Python defines.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <torch/csrc/stable/ops.h>

#include <exception>

#include "../core/kernels.h"
#include "../core/parallel.h"

namespace {

// PyTorch's own threads do the work, as many as torch.set_num_threads says.
constexpr zdce::Executor kTorchThreads = {
    [] { return static_cast<int>(torch::stable::get_num_threads()); },
    [](int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
      torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
    },
};

PyObject* isa(PyObject*, PyObject*) {
  try {
    return PyUnicode_FromString(zdce::isa_name(zdce::isa()));
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}

PyMethodDef methods[] = {
    {"isa", isa, METH_NOARGS, "The instruction set that the kernels run with: default, neon, avx2 or avx512."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() {
  zdce::set_executor(kTorchThreads);
  return PyModule_Create(&module);
}
