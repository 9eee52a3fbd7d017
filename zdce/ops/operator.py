"""Definition of an operator ``torch.ops.zdce.*``: schema, outputs, gradient, and the call of a backend's kernel.

Each operator has one implementation for every device: it allocates the outputs, as its fake does, and a backend's kernel writes
them. Backward is a separate operator; its last argument is the backend that was requested for forward. Compiled code registers
in private namespaces and takes the inputs, then the outputs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from zdce import backends
from zdce.ops import dispatch

_zdce = torch.library.Library("zdce", "DEF")
_cpp = torch.library.Library("zdce_cpp", "DEF")
_cuda = torch.library.Library("zdce_cuda", "DEF")

# Converts an operator's inputs to its reference's.
Inputs = Callable[[tuple[Any, ...]], tuple[Any, ...]]
# Converts a reference's inputs and outputs to a kernel's arguments.
Arguments = Callable[..., tuple[tuple[object, ...], tuple[Tensor | None, ...]]]


def empty_in_layout(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An empty output like ``like`` (B, C, H, W): channels_last if ``like`` is, otherwise contiguous."""
    layout = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return torch.empty_like(like, dtype=dtype, memory_format=layout)


def is_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def in_common_dtype(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors in the wider of their dtypes."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def empty_statistic(shape: tuple[int, ...], *inputs: Tensor) -> Tensor:
    """An empty small output of ``shape``: float64 if an input is, otherwise float32."""
    wide = any(tensor.dtype == torch.float64 for tensor in inputs)
    return inputs[0].new_empty(shape, dtype=torch.float64 if wide else torch.float32)


def contiguous(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    """Arguments of a kernel that takes contiguous tensors."""
    return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in inputs), outputs


def _same(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return inputs


def _unchanged(inputs: tuple[object, ...], outputs: tuple[Tensor, ...]) -> Any:
    return inputs, outputs


def define(
    schema: str,
    kernel: str,
    reference: Callable[..., Any],
    allocate: Callable[..., Any],
    arguments: Arguments = _unchanged,
    *,
    inputs: Inputs = _same,
    kernels: tuple[str, ...] = ("cpp", "triton"),
    float32_only: bool = False,
    float64_numbers: bool = False,
) -> None:
    """Defines ``zdce::<schema>`` and, for compiled code, ``<kernel>`` with the same name.

    Args:
        schema: schema of the public operator.
        kernel: schema of the compiled kernel: the inputs, then the outputs that it writes.
        reference: function in plain torch that takes the kernel's inputs and returns its outputs.
        allocate: function from the operator's arguments to its empty outputs.
        arguments: converts the reference's inputs and outputs to the kernels' arguments.
        inputs: converts the operator's inputs (of backward without the backend) to the reference's, where these are others.
        kernels: backends that have a kernel of the operator, beside the reference.
        float32_only: whether the C++ kernel takes only float32 weights.
        float64_numbers: whether tensors of single numbers, after the first tensor, are float64 in every backend.
    """
    name = schema.partition("(")[0]
    dispatch.OPERATORS[name] = dispatch.Operator(reference, inputs, frozenset(kernels), float32_only, float64_numbers)
    _zdce.define(schema)
    _cpp.define(kernel)
    if "cuda" in kernels:
        _cuda.define(kernel)

    backward = name.endswith("_backward")

    def of_kernel(given: tuple[Any, ...], outputs: tuple[Any, ...]) -> tuple[tuple[object, ...], tuple[Tensor | None, ...]]:
        return arguments(inputs(given), outputs)

    def compute(*values: Any) -> Any:
        given, backend = (values[:-1], values[-1]) if backward else (values, backends.requested())
        outputs = allocate(*values)
        dispatch.launch(name, backend, *of_kernel(given, outputs if isinstance(outputs, tuple) else (outputs,)))
        return outputs

    _zdce.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"zdce::{name}", allocate, lib=_zdce)
    if backward:
        _register_second_gradient(name, reference, of_kernel)

        def plain(*values: Any) -> Any:
            outputs = allocate(*values)
            taken, _ = of_kernel(values[:-1], outputs if isinstance(outputs, tuple) else (outputs,))
            return _as(outputs, reference(*map(dispatch.widened_all, taken)))

        _PLAIN_BACKWARD[name] = plain
        if "[]" in schema.rpartition("->")[2]:
            _LISTS.add(name)


# Backward operators as plain torch, by name: functions of the same arguments with the same results.
_PLAIN_BACKWARD: dict[str, Callable[..., Any]] = {}

# Those that return lists of tensors.
_LISTS: set[str] = set()


def _as(outputs: Any, results: Any) -> Any:
    """``results`` in the shapes and dtypes of ``outputs``, where these have elements."""
    if isinstance(outputs, tuple | list):
        return type(outputs)(_as(*both) for both in zip(outputs, results, strict=True))
    return results.reshape(outputs.shape).to(outputs.dtype) if outputs.numel() else outputs


def define_in_place(
    schema: str, reference: Callable[..., Any], arguments: Callable[..., tuple[object, ...]], *, kernels: tuple[str, ...]
) -> None:
    """Defines an operator that writes its last argument, with the same schema for compiled code; it has no gradient.

    ``arguments`` converts the inputs to the kernels' arguments.
    """
    name = schema.partition("(")[0]
    dispatch.OPERATORS[name] = dispatch.Operator(reference, _same, frozenset(kernels))
    _zdce.define(schema)
    _cpp.define(schema)

    def compute(*values: Any) -> None:
        written = values[-1]
        if not written.is_inference():
            torch.autograd.graph.increment_version(written)  # else backward would use it, if saved, as it is now
        dispatch.launch(name, backends.requested(), arguments(*values[:-1]), (written,))

    _zdce.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"zdce::{name}", lambda *_: None, lib=_zdce)


def define_cuda_kernel(schema: str) -> None:
    """Defines ``torch.ops.zdce_cuda.<schema>``, a kernel of ``zdce._cuda`` that belongs to no operator of all backends."""
    _cuda.define(schema)


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which see only through plain torch."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def call(name: str, *arguments: Any) -> Any:
    """Calls ``torch.ops.zdce.<name>``, or where torch is ``transformed`` its reference."""
    if transformed():
        operator = dispatch.OPERATORS[name]
        return operator.reference(*map(dispatch.widened_all, operator.inputs(arguments)))
    return getattr(torch.ops.zdce, name)(*arguments)


def call_backward(name: str, *arguments: Any) -> Any:
    """Calls ``torch.ops.zdce.<name>``, whose first argument is a gradient, or where torch transforms it its reference."""
    plain = transformed() or (name in _LISTS and not torch.compiler.is_compiling() and _is_batch(arguments[0]))
    return (_PLAIN_BACKWARD[name] if plain else getattr(torch.ops.zdce, name))(*arguments)


def _is_batch(grad: Tensor) -> bool:
    """Whether ``grad`` stands for a batch of gradients in torch.autograd (``is_grads_batched``, ``vectorize``).

    It has a vmap of its own, which calls operators that return tensors, but not lists, for each gradient.
    """
    return torch._C._functorch.is_legacy_batchedtensor(grad)


def register_gradient(name: str, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Registers the gradient of operator ``name``; ``ctx.backend`` is the backend that was requested for forward."""

    def setup_with_backend(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.backend = backends.requested()
        setup(ctx, inputs, output)

    torch.library.register_autograd(f"zdce::{name}", backward, setup_context=setup_with_backend, lib=_zdce)


def _register_second_gradient(name: str, reference: Callable[..., Any], arguments: Arguments) -> None:
    """Gives a backward operator a gradient of its own, which torch finds from its reference: plain torch, of any order."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.inputs = [_without_tensors(value) for value in inputs]
        ctx.save_for_backward(*_tensors(inputs))

    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        further = torch.is_grad_enabled()
        with torch.enable_grad():
            # Views of their own: inputs may depend on each other, and each one's gradient is of what it is used for here.
            views = (tensor.view_as(tensor) for tensor in ctx.saved_tensors)
            inputs = [_with_tensors(value, views) for value in ctx.inputs]
            taken, directions = arguments(tuple(inputs[:-1]), grads)
            results = reference(*map(dispatch.widened_all, taken))
            results = results if isinstance(results, tuple) else (results,)
            # Gradients that nobody wants are empty.
            both = [
                (result, direction.to(result.dtype))
                for result, direction in zip(_tensors(results), _tensors(directions, none=True), strict=True)
                if direction is not None and direction.numel() and result.requires_grad
            ]
            wanted = [tensor for tensor in _tensors(inputs) if tensor.requires_grad]
            if not both or not wanted:
                return (None,) * len(inputs)
            of, along = zip(*both, strict=True)
            found = iter(torch.autograd.grad(of, wanted, along, create_graph=further, allow_unused=True))
        return tuple(_gradients_of(value, found) for value in inputs)

    torch.library.register_autograd(f"zdce::{name}", backward, setup_context=setup, lib=_zdce)


# Stands for a tensor among an operator's inputs.
_TENSOR = object()


def _tensors(values: Iterable[Any], none: bool = False) -> list[Any]:
    """The tensors among ``values`` and in lists there; where ``none`` also None."""
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, Tensor) or (none and one is None)]


def _without_tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_tensors(one) for one in value]
    return _TENSOR if isinstance(value, Tensor) else value


def _with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, list):
        return [_with_tensors(one, tensors) for one in value]
    return next(tensors) if value is _TENSOR else value


def _gradients_of(value: Any, found: Iterator[Tensor | None]) -> Any:
    """As ``value``, an input: of a tensor that wants one the next gradient, else None."""
    if isinstance(value, list) and any(isinstance(one, Tensor) for one in value):
        return [_gradients_of(one, found) for one in value]
    return next(found) if isinstance(value, Tensor) and value.requires_grad else None
