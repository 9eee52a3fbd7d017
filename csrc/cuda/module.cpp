// The Python module zdce._cuda. Importing it registers the kernels under torch.ops.zdce_cuda, whose schemas Python
// defines.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace {

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cuda", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__cuda() { return PyModule_Create(&module); }
