"""The op table and what its entries are made of."""

from gradwire_server.engine.ops.op import Op, OperandError, Spec, Step
from gradwire_server.engine.ops.table import OPS

__all__ = ["OPS", "Op", "OperandError", "Spec", "Step"]
