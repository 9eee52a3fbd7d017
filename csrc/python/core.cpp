// The Python module zdce._core: the core for buffers (NumPy arrays), without torch. Results are written into arrays
// that the caller brings. The interpreter's lock is released while pixels are worked on.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cmath>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "../core/kernels.h"
#include "../core/model.h"
#include "../core/operations.h"
#include "../core/parallel.h"
#include "../core/tile_plan.h"

namespace {

using namespace zdce;

// A Python exception is set already.
struct PythonError {};

// Calls f and gives what it returns, exceptions turned into Python's.
template <class F>
PyObject* guarded(const F& f) {
  try {
    return f();
  } catch (const PythonError&) {
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::length_error&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    const std::string message = error.what();
    PyErr_SetString(PyExc_ValueError, message.c_str() + (message.compare(0, 6, "zdce: ") == 0 ? 6 : 0));
  }
  return nullptr;
}

class WithoutLock {
 public:
  WithoutLock() : state_(PyEval_SaveThread()) {}
  ~WithoutLock() { PyEval_RestoreThread(state_); }
  WithoutLock(const WithoutLock&) = delete;
  WithoutLock& operator=(const WithoutLock&) = delete;

 private:
  PyThreadState* state_;
};

PyObject* none() { return Py_NewRef(Py_None); }

void parse(bool parsed) {
  if (!parsed) throw PythonError();
}

// An array's memory, for as long as this lives.
class Array {
 public:
  Array(PyObject* object, const char* name, bool written) : name_(name) {
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags) != 0) throw PythonError();
  }
  ~Array() { PyBuffer_Release(&view_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  // (H, W, 3), of uint8, uint16 or float32, any strides.
  Picture picture() const {
    expect(view_.ndim == 3 && view_.shape[2] == 3, "must be (H, W, 3)");
    expect(view_.shape[0] > 0 && view_.shape[1] > 0, "must have pixels");
    const Element element = this->element();
    const int64_t bytes = bytes_of(element);
    for (int i = 0; i < 3; ++i) expect(view_.strides[i] % bytes == 0, "must have strides of whole values");
    return {view_.buf,
            element,
            view_.shape[0],
            view_.shape[1],
            view_.strides[0] / bytes,
            view_.strides[1] / bytes,
            view_.strides[2] / bytes};
  }

  // Contiguous float32 of that shape; -1 stands for any size.
  float* floats(std::initializer_list<int64_t> shape) const {
    expect(element() == Element::kFloat, "must be float32");
    return static_cast<float*>(contiguous(shape));
  }

  int64_t size(int dimension) const { return dimension < view_.ndim ? view_.shape[dimension] : 0; }
  int dimensions() const { return view_.ndim; }

  std::vector<int64_t> integers() const {
    expect(view_.itemsize == 8 && (format() == 'l' || format() == 'q'), "must be int64");
    const int64_t* const from = static_cast<const int64_t*>(contiguous({-1}));
    return {from, from + view_.shape[0]};
  }

 private:
  void expect(bool holds, const char* what) const {
    if (!holds) throw std::runtime_error(std::string(name_) + " " + what);
  }

  char format() const {
    const char* f = view_.format == nullptr ? "B" : view_.format;
    f += *f == '<' || *f == '=' || *f == '@';
    return f[0] != '\0' && f[1] == '\0' ? f[0] : '\0';
  }

  Element element() const {
    switch (format()) {
      case 'B':
        return Element::kUint8;
      case 'H':
        return Element::kUint16;
      case 'f':
        return Element::kFloat;
      default:
        throw std::runtime_error(std::string(name_) + " must be uint8, uint16 or float32");
    }
  }

  void* contiguous(std::initializer_list<int64_t> shape) const {
    bool fits = view_.ndim == static_cast<int>(shape.size());
    int i = 0;
    for (const int64_t size : shape) {
      fits = fits && (size < 0 || view_.shape[i] == size), ++i;
    }
    int64_t stride = view_.itemsize;
    for (i = view_.ndim - 1; fits && i >= 0; stride *= view_.shape[i--]) {
      fits = view_.shape[i] <= 1 || view_.strides[i] == stride;
    }
    expect(fits, "must be contiguous and of the expected shape");
    return view_.buf;
  }

  const char* name_;
  Py_buffer view_;
};

// Networks are capsules: Python holds them, and tells nothing of them to others.
constexpr const char* kNetwork = "zdce._core.Network";

void destroy(PyObject* capsule) { delete static_cast<Model*>(PyCapsule_GetPointer(capsule, kNetwork)); }

PyObject* capsule_of(std::unique_ptr<Model> model) {
  PyObject* const capsule = PyCapsule_New(model.get(), kNetwork, destroy);
  if (capsule == nullptr) throw PythonError();
  model.release();
  return capsule;
}

const Model& model_of(PyObject* capsule) {
  const void* const model = PyCapsule_GetPointer(capsule, kNetwork);
  if (model == nullptr) throw PythonError();
  return *static_cast<const Model*>(model);
}

PyObject* read_network(PyObject*, PyObject* arguments) {
  return guarded([&] {
    const char* bytes = nullptr;
    Py_ssize_t size = 0;
    int bfloat16 = 0;
    parse(PyArg_ParseTuple(arguments, "y#p", &bytes, &size, &bfloat16));
    return capsule_of(read_model(bytes, static_cast<size_t>(size), bfloat16 != 0));
  });
}

PyObject* make_network(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *plan = nullptr, *parameters = nullptr;
    long long scale = 1;
    int guided = 0;
    parse(PyArg_ParseTuple(arguments, "OOLp", &plan, &parameters, &scale, &guided));
    check_scale(scale);
    const Array numbers(parameters, "parameters", false);
    const float* const values = numbers.floats({-1});
    auto model = std::make_unique<Model>(Array(plan, "plan", false).integers(),
                                         std::vector<float>(values, values + numbers.size(0)));
    model->settings.scale = scale;
    model->guided = guided != 0;
    return capsule_of(std::move(model));
  });
}

PyObject* describe(PyObject*, PyObject* network) {
  return guarded([&] {
    const Model& model = model_of(network);
    const Settings& own = model.settings;
    return Py_BuildValue("{s:i,s:i,s:L,s:d,s:d}", "iterations", model.network().iterations, "maps",
                         model.network().maps, "scale", static_cast<long long>(own.scale), "brightness", own.brightness,
                         "noise", own.noise);
  });
}

PyObject* enhance_array(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *network = nullptr, *picture = nullptr, *result = nullptr;
    Settings how;
    long long scale = 1;
    parse(PyArg_ParseTuple(arguments, "OOOdddL|ddd", &network, &picture, &result, &how.strength, &how.brightness,
                           &how.noise, &scale, &how.shadows, &how.highlights, &how.grain));
    how.scale = scale;
    const Model& model = model_of(network);
    const Array from(picture, "picture", false), to(result, "result", true);
    const Picture source = from.picture(), target = to.picture();
    {
      const WithoutLock unlocked;
      enhance(model, source, how, target);
    }
    return none();
  });
}

PyObject* tiles(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject* network = nullptr;
    int height = 0, width = 0, threads = 0;
    parse(PyArg_ParseTuple(arguments, "Oiii", &network, &height, &width, &threads));
    if (height < 1 || width < 1 || height >= kSideLimit || width >= kSideLimit || threads < 1 ||
        threads > kMostThreads) {
      throw std::runtime_error("height and width must be at least 1 and below 2^28, threads from 1 to " +
                               std::to_string(kMostThreads));
    }
    const std::vector<PictureTile> planned = plan_tiles(model_of(network).network(), height, width, threads);
    PyObject* const list = PyList_New(static_cast<Py_ssize_t>(planned.size()));
    if (list == nullptr) throw PythonError();
    for (size_t i = 0; i < planned.size(); ++i) {
      const PictureTile& tile = planned[i];
      PyObject* const bounds = Py_BuildValue("(iiii)", tile.top, tile.bottom, tile.left, tile.right);
      if (bounds == nullptr || PyList_SetItem(list, static_cast<Py_ssize_t>(i), bounds) != 0) {
        Py_DECREF(list);
        throw PythonError();
      }
    }
    return list;
  });
}

PyObject* tile(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *network = nullptr, *picture = nullptr, *result = nullptr;
    PictureTile at;
    parse(PyArg_ParseTuple(arguments, "OO(iiii)O", &network, &picture, &at.top, &at.bottom, &at.left, &at.right,
                           &result));
    const Model& model = model_of(network);
    const Array from(picture, "picture", false), to(result, "result", true);
    const Picture source = from.picture(), target = to.picture();
    {
      const WithoutLock unlocked;
      run_network_tile(model.network(), source, at, target);
    }
    return none();
  });
}

PyObject* maps(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *network = nullptr, *picture = nullptr, *result = nullptr;
    long long scale = 1;
    parse(PyArg_ParseTuple(arguments, "OOLO", &network, &picture, &scale, &result));
    check_scale(scale);
    const Model& model = model_of(network);
    const Array from(picture, "picture", false), to(result, "maps", true);
    const Picture source = from.picture();
    float* const target =
        to.floats({model.network().maps, small_side(source.height, scale), small_side(source.width, scale)});
    {
      const WithoutLock unlocked;
      curve_maps(model, source, scale, target);
    }
    return none();
  });
}

PyObject* maps_in_use(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *network = nullptr, *picture = nullptr, *result = nullptr;
    Settings how;
    long long scale = 1;
    parse(PyArg_ParseTuple(arguments, "OOdLO|dd", &network, &picture, &how.brightness, &scale, &result, &how.shadows,
                           &how.highlights));
    check_scale(scale);
    how.scale = scale;
    const Model& model = model_of(network);
    const Array from(picture, "picture", false), to(result, "maps", true);
    const Picture source = from.picture();
    float* const target =
        to.floats({model.used_maps(), small_side(source.height, scale), small_side(source.width, scale)});
    {
      const WithoutLock unlocked;
      used_maps(model, source, how, target);
    }
    return none();
  });
}

PyObject* apply_maps(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *picture = nullptr, *maps = nullptr, *result = nullptr;
    long long iterations = 0, scale = 1;
    int aligned = 0;
    double strength = 1;
    parse(PyArg_ParseTuple(arguments, "OOLLpdO", &picture, &maps, &iterations, &scale, &aligned, &strength, &result));
    check_scale(scale);
    const Array from(picture, "picture", false), between(maps, "maps", false), to(result, "result", true);
    const Picture source = from.picture(), target = to.picture();
    const int64_t height = small_side(source.height, scale), width = small_side(source.width, scale);
    const Planes planes = contiguous_maps(between.floats({-1, height, width}), between.size(0), height, width);
    {
      const WithoutLock unlocked;
      enhance_picture(source, planes, iterations, scale, aligned != 0, strength, false, target);
    }
    return none();
  });
}

PyObject* reduce(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *picture = nullptr, *result = nullptr;
    long long scale = 1;
    int means = 1;
    parse(PyArg_ParseTuple(arguments, "OLpO", &picture, &scale, &means, &result));
    check_scale(scale);
    const Array from(picture, "picture", false), to(result, "small", true);
    const Picture source = from.picture();
    float* const target = to.floats({3, small_side(source.height, scale), small_side(source.width, scale)});
    {
      const WithoutLock unlocked;
      reduce_picture(source, scale, means != 0, target);
    }
    return none();
  });
}

PyObject* noise(PyObject*, PyObject* picture) {
  return guarded([&] {
    const Array from(picture, "picture", false);
    const Picture source = from.picture();
    NoiseLevels found;
    {
      const WithoutLock unlocked;
      found = measure_noise(source);
    }
    return Py_BuildValue("(dd)", found.noise, found.grain);
  });
}

PyObject* denoise(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *picture = nullptr, *enhanced = nullptr;
    double noise = 0, grain = 0;
    parse(PyArg_ParseTuple(arguments, "OOd|d", &picture, &enhanced, &noise, &grain));
    const Array from(picture, "picture", false), to(enhanced, "enhanced", true);
    const Picture source = from.picture(), target = to.picture();
    {
      const WithoutLock unlocked;
      denoise_in_place(source, target, noise, grain);
    }
    return none();
  });
}

PyObject* apply_curve(PyObject*, PyObject* arguments) {
  return guarded([&] {
    PyObject *image = nullptr, *maps = nullptr, *result = nullptr;
    long long iterations = 0;
    parse(PyArg_ParseTuple(arguments, "OOLO", &image, &maps, &iterations, &result));
    const Array from(image, "image", false), between(maps, "maps", false), to(result, "result", true);
    const int64_t height = from.size(1), width = from.size(2);
    const auto planes = [&](const Array& array, int64_t channels) {
      return contiguous_maps(array.floats({channels, height, width}), array.size(0), 1, height * width);
    };
    const Planes source = planes(from, 3), curves = planes(between, -1), target = planes(to, 3);
    check_curve(source, curves, "maps", iterations);
    {
      const WithoutLock unlocked;
      kernels().apply_curve(source, curves, static_cast<int>(iterations), target);
    }
    return none();
  });
}

PyObject* instruction_set(PyObject*, PyObject*) {
  return guarded([&] { return PyUnicode_FromString(isa_name(isa())); });
}

PyObject* has_bfloat16(PyObject*, PyObject*) {
  return guarded([&] { return PyBool_FromLong(can_run_bfloat16()); });
}

PyObject* threads(PyObject*, PyObject*) { return PyLong_FromLong(own_threads().threads()); }

PyObject* set_threads(PyObject*, PyObject* number) {
  const long threads = PyLong_AsLong(number);
  if (threads == -1 && PyErr_Occurred() != nullptr) return nullptr;
  set_own_number(threads < 0 || threads > kMostThreads ? kMostThreads : static_cast<int>(threads));
  return none();
}

PyObject* compiler(PyObject*, PyObject*) {
#if defined(__clang__)
  return PyUnicode_FromString(__VERSION__);
#else
  return PyUnicode_FromString("GCC " __VERSION__);
#endif
}

PyMethodDef methods[] = {
    {"make_network", make_network, METH_VARARGS,
     "(plan: int64 (N,), parameters: float32 (P,), scale: the network's own, guided: bool) -> a network, as a "
     "capsule."},
    {"enhance", enhance_array, METH_VARARGS,
     "(network, picture (H, W, 3), result likewise, strength, brightness, noise in levels of 255, scale, "
     "shadows=0, highlights=1, grain=0): result is written."},
    {"plan_tiles", tiles, METH_VARARGS,
     "(network, height, width, threads) -> the tiles that a picture is worked on in, [(top, bottom, left, right)]."},
    {"run_network_tile", tile, METH_VARARGS,
     "(network, picture (H, W, 3), (top, bottom, left, right), result likewise): that part of result is written, on "
     "this thread."},
    {"used_maps", maps_in_use, METH_VARARGS,
     "(network, picture (H, W, 3), brightness, scale, maps float32 (C, ceil(H / scale), ceil(W / scale)), shadows=0, "
     "highlights=1): what enhance applies, with the strength for the scene; maps are written."},
    {"enhance_picture", apply_maps, METH_VARARGS,
     "(picture (H, W, 3), maps float32 (C, h, w), iterations, scale, aligned, strength, result): result is written."},
    {"measure_noise", noise, METH_O,
     "(picture (H, W, 3)) -> deviations of its noise and of its finest details, in levels of 255."},
    {"denoise_picture", denoise, METH_VARARGS,
     "(picture (H, W, 3), enhanced (H, W, 3), noise in levels of 255, grain=0): enhanced is changed in place."},
    {"instruction_set", instruction_set, METH_NOARGS, "-> the name of the one in use, as in ZDCE_ISA."},
    {"has_bfloat16", has_bfloat16, METH_NOARGS, "-> whether networks can run in bfloat16 here."},
    {"threads", threads, METH_NOARGS, "-> how many threads work on a picture."},
    {"set_threads", set_threads, METH_O, "(number): sets it; 0: as many as there are processors."},
    {"compiler", compiler, METH_NOARGS, "-> the compiler that built this."},
    // For tests: what zdce_network_from_safetensors, zdce_curve_maps and zdce_reduce give, and one kernel alone.
    {"read_network", read_network, METH_VARARGS,
     "(data: bytes of a .safetensors file, bfloat16: bool) -> a network, as a capsule."},
    {"describe", describe, METH_O,
     "(network) -> its iterations, maps, scale, brightness and noise (in levels of 255)."},
    {"curve_maps", maps, METH_VARARGS,
     "(network, picture (H, W, 3), scale, maps float32 (C, ceil(H / scale), ceil(W / scale))): maps are written."},
    {"reduce_picture", reduce, METH_VARARGS,
     "(picture (H, W, 3), scale, means, small float32 (3, h, w)): small is written."},
    {"apply_curve", apply_curve, METH_VARARGS,
     "(image float32 (3, H, W), maps float32 (C, H, W), iterations, result (3, H, W)): result is written."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core() { return PyModule_Create(&module); }
