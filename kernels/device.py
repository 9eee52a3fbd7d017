"""Functions on the device that kernels share: the curve's step, luma, tanh, and how values are loaded."""

import triton
import triton.language as tl
from triton import knobs

from zdce.srgb import LUMA

# The interpreter needs a millisecond for every call of a jitted function; plain Python functions that a kernel calls run
# directly.
device_function = (lambda function: function) if knobs.runtime.interpret else triton.jit

# A number of the module that kernels read. The interpreter takes plain numbers.
constant = (lambda number: number) if knobs.runtime.interpret else tl.constexpr

RED, GREEN, BLUE = map(constant, LUMA)


@device_function
def wide(stride):
    # Strides are multiplied in 64 bits: from 93 megapixels on, 23 channels are more than 2^31 elements.
    return tl.cast(stride, tl.int64)


@device_function
def load(pointers, mask):
    # Arithmetic is in float32 for all types in memory.
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@device_function
def clamped(a, low, high):
    """`a` within [low, high]; NaN stays."""
    a = tl.where(a > high, high, a)
    return tl.where(a < low, low, a)


@device_function
def step(x, a):
    """A step of the curve."""
    return x + a * (x * x - x)


@device_function
def luma(colors):
    return RED * colors[0] + GREEN * colors[1] + BLUE * colors[2]


@device_function
def hyperbolic_tangent(x):
    # x P(x^2) / Q(x^2), the coefficients of csrc/curve.h.
    x = clamped(x, -9.4, 9.4)
    u = x * x
    p = (((u * 1.33191732e-08 + 2.05835531e-05) * u + 3.49403918e-03) * u + 1.33797213e-01) * u + 1.0
    q = (((u * 7.76205809e-07 + 3.28310009e-04) * u + 2.58710906e-02) * u + 4.67130363e-01) * u + 1.0
    return clamped(x * p / q, -1.0, 1.0)
