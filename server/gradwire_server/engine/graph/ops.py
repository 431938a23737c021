"""The table of ops, closed once: an op is one entry here, one in the reference and one row pattern in the lowering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from gradwire_server.engine.graph import rules
from gradwire_server.engine.graph.graph import Attributes
from gradwire_server.engine.graph.opcodes import Opcode


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An op of the table."""

    name: str
    opcode: Opcode
    min_operands: int = 1
    max_operands: int | None = 1
    """None: any number."""
    infer: Callable[[Sequence[rules.Spec], Attributes], rules.Inferred] = rules.elementwise
    """Shape rule; raises OperandError."""
    summary: str
    """The value, as a formula."""
    derivative: str
    """The local derivative, as a formula."""
    index_operands: frozenset[int] = frozenset()
    """Which operands are row indices (int64)."""
    passive_operands: int = 0
    """How many operands, from the first on, get no gradient, whatever the node's own is."""


_nary = partial(Op, max_operands=None)
_comparison = partial(Op, min_operands=2, max_operands=2, passive_operands=2, derivative="0, 0")

_ENTRIES = (
    _nary(name="add", opcode=Opcode.ADD, summary="a + b", derivative="1, 1"),
    _nary(name="mul", opcode=Opcode.MUL, summary="a b", derivative="b, a"),
    _nary(
        name="max",
        opcode=Opcode.MAX,
        summary="max(a, b)",
        derivative="I[a > b], I[b > a]; at a tie 0, or equal shares",
    ),
    Op(name="sigmoid", opcode=Opcode.SIGMOID, summary="s = 1 / (1 + e^-a)", derivative="s (1 - s)"),
    Op(name="exp", opcode=Opcode.EXP, summary="e^a", derivative="e^a"),
    Op(name="log", opcode=Opcode.LOG, summary="log a", derivative="1 / a"),
    Op(name="tanh", opcode=Opcode.TANH, summary="t = tanh a", derivative="1 - t^2"),
    Op(name="softplus", opcode=Opcode.SOFTPLUS, summary="log(1 + e^a)", derivative="sigmoid(a)"),
    Op(
        name="power",
        opcode=Opcode.POWER,
        infer=rules.power,
        summary="a^p, p constant",
        derivative="p a^(p-1); 0 for p = 0, 1 for p = 1",
    ),
    Op(name="sin", opcode=Opcode.SIN, summary="sin a", derivative="cos a"),
    Op(name="cos", opcode=Opcode.COS, summary="cos a", derivative="-sin a"),
    Op(name="log1p", opcode=Opcode.LOG1P, summary="log(1 + a)", derivative="1 / (1 + a)"),
    Op(name="expm1", opcode=Opcode.EXPM1, summary="e^a - 1", derivative="e^a"),
    Op(name="erf", opcode=Opcode.ERF, summary="erf a", derivative="2 / sqrt(pi) e^(-a^2)"),
    _comparison(name="less", opcode=Opcode.LESS, summary="I[a < b]"),
    _comparison(name="equal", opcode=Opcode.EQUAL, summary="I[a = b]"),
    Op(
        name="select",
        opcode=Opcode.SELECT,
        min_operands=3,
        max_operands=3,
        summary="a where c is not 0, else b; for operands c, a, b",
        derivative="0, I[c is not 0], I[c is 0]",
        passive_operands=1,
    ),
    Op(
        name="sum",
        opcode=Opcode.SUM,
        infer=rules.reduction,
        summary="sum of a over axes",
        derivative="1 for each element",
    ),
    Op(
        name="reduce_max",
        opcode=Opcode.REDUCE_MAX,
        infer=rules.nonempty_reduction,
        summary="maximum of a over axes",
        derivative="1 for the largest element; at a tie 0, or equal shares",
    ),
    Op(
        name="logsumexp",
        opcode=Opcode.LOGSUMEXP,
        infer=rules.nonempty_reduction,
        summary="l = log(sum of e^a over axes)",
        derivative="e^(a - l); 0 where l is -inf",
    ),
    Op(
        name="matmul",
        opcode=Opcode.MATMUL,
        min_operands=2,
        max_operands=2,
        infer=rules.matmul,
        summary="matrix product A B",
        derivative="G B^T, A^T G for the gradient G of the product",
    ),
    Op(
        name="reshape",
        opcode=Opcode.RESHAPE,
        infer=rules.reshape,
        summary="the elements of a in another shape",
        derivative="1 for each element",
    ),
    Op(
        name="transpose",
        opcode=Opcode.TRANSPOSE,
        infer=rules.transpose,
        summary="a with its axes permuted",
        derivative="1 for each element",
    ),
    Op(
        name="take",
        opcode=Opcode.TAKE,
        min_operands=2,
        max_operands=2,
        infer=rules.take,
        summary="entries of a along an axis, by integer index",
        derivative="1 for each element taken; repeated entries add up",
        index_operands=frozenset({1}),
    ),
    Op(
        name="scatter_add",
        opcode=Opcode.SCATTER_ADD,
        min_operands=2,
        max_operands=2,
        infer=rules.scatter_add,
        summary="zeros, to which entries of a are added by integer index along an axis",
        derivative="1 for each element",
        index_operands=frozenset({1}),
    ),
    _nary(
        name="concatenate",
        opcode=Opcode.CONCATENATE,
        infer=rules.concatenate,
        summary="a, b, ... one after another along an axis",
        derivative="1 for each element",
    ),
    Op(
        name="slice",
        opcode=Opcode.SLICE,
        infer=rules.slice_,
        summary="elements of a from a start in steps, along each axis",
        derivative="1 for each element of the slice",
    ),
    Op(
        name="cumsum",
        opcode=Opcode.CUMSUM,
        infer=rules.cumsum,
        summary="sums of the elements of a up to each, along an axis",
        derivative="1 for each element of a sum",
    ),
    Op(name="stop_gradient", opcode=Opcode.STOP_GRADIENT, passive_operands=1, summary="a", derivative="0"),
)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _ENTRIES})
"""Every op that a node may have, by its name on the wire."""

PASSIVE_OPERANDS = np.zeros(max(Opcode) + 1, np.int64)
"""[opcodes], how many operands, from the first on, get no gradient."""
for _op in _ENTRIES:
    PASSIVE_OPERANDS[_op.opcode] = _op.passive_operands
