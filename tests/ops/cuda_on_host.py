"""The CUDA kernels as a backend on CPU tensors: compiled by the host's C++ compiler with cuda_on_host.h, called by ctypes."""

import ctypes
import functools
import shutil
import subprocess
from pathlib import Path

import torch

import compiled
from zdce.ops.dispatch import BACKENDS, OPERATORS, Backend, kernel_launcher, why_missing
from zdce.settings import LossWeights

COMPILER = shutil.which("g++")
FLAGS = ["-std=c++20", "-pthread", "-fno-strict-aliasing", "-Wall", "-Wno-psabi", "-Wno-unknown-pragmas"]
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # enum Type of planes.cuh
ELEMENTS = {torch.uint8: 0, torch.uint16: 1, torch.float32: 4}  # enum class Element of element.h


class Planes(ctypes.Structure):
    """struct Planes of planes.cuh, of a tensor whose axes the letters name: batch, channel, row (y) and pixel (x)."""

    _fields_ = [("data", ctypes.c_void_p), ("type", ctypes.c_int32)] + [(axis, ctypes.c_int64) for axis in "bcyx"]

    @classmethod
    def of(cls, tensor, axes):
        if tensor is None:
            return cls()
        strides = {axis: tensor.stride(d) for d, axis in enumerate(axes) if tensor.shape[d] > 1}
        return cls(tensor.data_ptr(), TYPES[tensor.dtype], **strides)


class CurveShape(ctypes.Structure):
    _fields_ = [("batch", ctypes.c_int64), ("pixels", ctypes.c_int64), ("iterations", ctypes.c_int), ("shared", ctypes.c_bool)]


class ObjectiveShape(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_int64) for axis in ("batch", "height", "width")] + CurveShape._fields_[2:]


@functools.cache
def library():
    source = Path(__file__).with_suffix(".cpp")
    # -O2 would take five seconds more than it would save the tests.
    command = [COMPILER, *FLAGS, "-O1", "-fPIC", "-shared"]
    version = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [source, source.with_suffix(".h"), *compiled.cuda_sources()]
    target = compiled.kept(
        "cuda_on_host.so", sources, (version, command), lambda path: subprocess.run([*command, source, "-o", path], check=True)
    )
    return ctypes.CDLL(str(target))


def apply_curve(image, maps, iterations, enhanced):
    shape = CurveShape(image.shape[0], image.shape[2], iterations, maps.shape[1] == 3)
    views = [Planes.of(tensor, "bcx") for tensor in (image, maps, enhanced)]
    library().zdce_apply_curve(*map(ctypes.byref, (*views, shape)))


def apply_curve_backward(grad, image, maps, iterations, grad_image, grad_maps):
    shape = CurveShape(image.shape[0], image.shape[2], iterations, maps.shape[1] == 3)
    views = [Planes.of(tensor, "bcx") for tensor in (grad, image, maps, grad_image, grad_maps)]
    library().zdce_apply_curve_backward(*map(ctypes.byref, (*views, shape)))


def objective_shape(image, logits, iterations):
    return ObjectiveShape(image.shape[0], *image.shape[2:], iterations, logits.shape[1] == 3)


class ObjectiveSettings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("along_y", "along_x", *LossWeights._fields, "target")]


class ObjectiveForward(ctypes.Structure):
    _fields_ = [("image", Planes), ("logits", Planes), ("settings", ObjectiveSettings), ("scalars", ctypes.c_void_p * 5)]
    _fields_ += [(name, ctypes.c_void_p) for name in ("regions", "gaps", "means", "partials", "sums", "arrived")]


class ObjectiveBackward(ctypes.Structure):
    _fields_ = [(name, Planes) for name in ("image", "logits", "grad_logits")]
    _fields_ += [("settings", ObjectiveSettings), ("grads", ctypes.c_void_p * 5)]
    _fields_ += [(name, ctypes.c_void_p) for name in ("regions", "gaps", "means", "grad_regions", "grad_channels", "grad_tv")]


def pointers(*tensors):
    for tensor in tensors:
        assert tensor is None or (tensor.dtype == torch.float32 and tensor.is_contiguous())
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def objective(image, logits, iterations, *others):
    settings, outputs = others[:7], others[7:]
    found = pointers(*outputs)
    forward = ObjectiveForward(
        Planes.of(image, "bcyx"), Planes.of(logits, "bcyx"), ObjectiveSettings(*settings), (ctypes.c_void_p * 5)(*found[:5]),
        *found[5:],
    )  # fmt: skip
    library().zdce_objective(ctypes.byref(forward), ctypes.byref(objective_shape(image, logits, iterations)))


def objective_backward(*inputs):
    grads, statistics, (image, logits, iterations, *settings, grad_logits) = inputs[:5], inputs[5:8], inputs[8:]
    backward = ObjectiveBackward(
        *(Planes.of(tensor, "bcyx") for tensor in (image, logits, grad_logits)), ObjectiveSettings(*settings),
        (ctypes.c_void_p * 5)(*pointers(*grads)), *pointers(*statistics),
    )  # fmt: skip
    library().zdce_objective_backward(ctypes.byref(backward), ctypes.byref(objective_shape(image, logits, iterations)))


def objective_terms(partials, pixels, settings, scalars, channel_means):
    """Adds up ``partials`` (5, B, tiles) of images that are one row of ``pixels``, and have no regions."""
    forward = ObjectiveForward(
        Planes(), Planes(), ObjectiveSettings(*settings), (ctypes.c_void_p * 5)(*pointers(*scalars)),
        means=channel_means.data_ptr(), partials=partials.data_ptr(),
    )  # fmt: skip
    shape = ObjectiveShape(partials.shape[1], 1, pixels, 1, True)
    library().zdce_objective_terms(ctypes.byref(forward), ctypes.c_int64(partials.shape[2]), ctypes.byref(shape))


class Pixels(ctypes.Structure):
    """struct Pixels of network.cuh, of a tensor (B, H, W, C)."""

    _fields_ = [("data", ctypes.c_void_p), ("element", ctypes.c_int)] + [(axis, ctypes.c_int64) for axis in "byxc"]

    @classmethod
    def of(cls, tensor):
        return cls(tensor.data_ptr(), ELEMENTS[tensor.dtype], *tensor.stride())


class NetworkJob(ctypes.Structure):
    _fields_ = [("picture", Pixels), ("result", Pixels), ("weights", ctypes.c_void_p), ("biases", ctypes.c_void_p)]
    _fields_ += [(name, ctypes.c_int) for name in ("height", "width", "rows", "across", "down")]
    _fields_ += [("strength", ctypes.c_float), ("strengths", ctypes.c_void_p), ("to_maps", ctypes.c_bool)]


def network_runner(processors=132, shared_a_block=227 << 10, shared_a_processor=228 << 10):
    """``zdce.models.fused_network.run_network`` as on a GPU of so many processors and bytes of shared memory."""

    def run_network(pictures, weights, biases, plan, strength, strengths, to_maps, results):
        height, width = pictures.shape[1:3]
        views = Pixels.of(pictures), Pixels.of(results), weights.data_ptr(), biases.data_ptr()
        own = None if strengths is None else strengths.data_ptr()
        job = NetworkJob(*views, height, width, 0, 0, 0, strength, own, to_maps)
        gpu = (ctypes.c_int * 3)(processors, shared_a_block, shared_a_processor)
        numbers = (ctypes.c_int64 * len(plan))(*plan.tolist())
        half = ctypes.c_bool(weights.dtype == torch.float16)
        failed = library().zdce_run_network(
            numbers, ctypes.c_int64(len(plan)), ctypes.byref(job), ctypes.c_int64(len(pictures)), half, gpu
        )
        if failed:
            raise RuntimeError("the kernel does not run the network")

    return run_network


class Layout(ctypes.Structure):
    """How a block and a processor of a GPU are divided for a network."""

    _fields_ = [(name, ctypes.c_int) for name in ("strips", "together", "shared_bytes", "columns", "results", "tiles", "rows")]


def network_layout(plan, eight_bits, limits, size=(1080, 1920)):
    """The ``Layout`` for a network of ``plan`` and pictures of ``size`` on a GPU of these ``limits``, None if it does not fit:
    its processors and the bytes of shared memory of a block and of a processor.
    """
    gpu, found = (ctypes.c_int * 3)(*limits), Layout()
    numbers = (ctypes.c_int64 * len(plan))(*plan)
    failed = library().zdce_network_layout(
        numbers, ctypes.c_int64(len(plan)), ctypes.c_bool(eight_bits), gpu, *size, ctypes.byref(found)
    )
    return None if failed else found


def bank_conflicts():
    """Matrices that kernels loaded from shared memory so far of which two rows were in the same banks."""
    library().zdce_bank_conflicts.restype = ctypes.c_int64
    return library().zdce_bank_conflicts()


def missing(device, dtype):
    if COMPILER is None:
        return "there is no g++ to compile the kernels with"
    if device != "cpu":
        return f"it runs on CPU tensors, not on {device}"
    if dtype == torch.float64:
        return "the CUDA kernels take float32, bfloat16 and float16, not float64"
    return None


def launcher(operator):
    if "cuda" in OPERATORS[operator].kernels:
        return kernel_launcher(globals()[operator])
    # What CUDA C++ doesn't cover, Triton does on a GPU; here the quickest backend stands in.
    return BACKENDS["reference" if why_missing("cpp") else "cpp"].launcher(operator)


BACKEND = Backend(missing, launcher)
