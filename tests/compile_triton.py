"""Compiles the Triton kernels for GPUs that need not be there, printing a JSON line each. TRITON_INTERPRET must be unset."""

import json
import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from zdce.kernels import apply_curve

TARGETS = [GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32), GPUTarget("cuda", 100, 32), GPUTarget("hip", "gfx942", 64)]
TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}


def kernels():
    """(kernel, its constants) as the launchers pass them for T = 8."""
    options = {"T": 8, "SHARED": False}
    yield apply_curve.curve_forward, {**options, "BLOCK": apply_curve.FORWARD_BLOCK}
    yield apply_curve.curve_backward, {
        **options, "IMAGE_WANTED": True, "MAPS_WANTED": True, "BLOCK": apply_curve.BACKWARD_BLOCK,
    }  # fmt: skip


def compiled(kernel, constants, dtype, target):
    """As the launcher specialises contiguous tensors: unit pixel strides, everything else divisible by 16."""
    units = {name: 1 for name in kernel.arg_names if name.endswith("_p")}
    constants = {**constants, **units}
    signature = {
        name: "constexpr" if name in constants else TYPES[dtype] if name.endswith("_ptr") else "i32"
        for name in kernel.arg_names
    }
    divisible = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name not in constants}
    source = ASTSource(kernel, signature, constants, divisible)
    return triton.compile(source, target=target, options={"num_warps": apply_curve.WARPS, "enable_fp_fusion": True})


def main():
    dtype = sys.argv[1]
    for target in TARGETS:
        for kernel, constants in kernels():
            binary = compiled(kernel, constants, dtype, target)
            row = {"kernel": kernel.__name__, "target": str(target.arch), "binary": sorted(binary.asm)}
            if target.backend == "cuda":
                accesses = re.findall(r"\b(ld|st)\.global(?:\.\w+)*?(?:\.v(\d))?\.b(\d+)", binary.asm["ptx"])
                row["widest"] = {
                    kind: max(int(v or 1) * int(b) // 8 for k, v, b in accesses if k == kind) for kind in ("ld", "st")
                }
            print(json.dumps(row))  # noqa: T201


if __name__ == "__main__":
    main()
