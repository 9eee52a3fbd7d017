"""Operators of the inference engine, in compiled code only: ``zdce.models.engine`` packs a network and runs it on a picture."""

from zdce.ops import operator

operator.define_compiled("packed_size(Tensor plan) -> int")
operator.define_compiled("pack_network(Tensor parameters, Tensor plan, Tensor(a!) packed) -> ()")
operator.define_compiled(
    "run_network(Tensor picture, Tensor plan, Tensor packed, float strength, bool maps, Tensor(a!) result) -> ()"
)
