"""Each op of the table: value and local derivative of samples, in both dtypes, and what its wrong use is told.

The oracles are PyTorch and central finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  (its usual name)

from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.engine.graph.ops import OPS
from tests.unit.engine.building import Builder, evaluate, refusal_of
from tests.unit.engine.swarms import columns

RANDOM = np.random.default_rng(7)

DEEP = (2, *(1,) * 30, 2)
"""A shape of as many axes as a tensor may have."""


def normal(*shape: int) -> Any:
    return RANDOM.normal(size=shape)


def positive(*shape: int) -> Any:
    return RANDOM.random(shape) + 0.2


@dataclass(frozen=True)
class Sample:
    """An op on operands; integer operands are rows."""

    op: str
    operands: tuple[Any, ...]
    torch: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Misuse:
    """An op on operands of these shapes, and words of the refusal; int64 is an operand of rows."""

    op: str
    operands: tuple[Any, ...]
    words: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    path: str = ""


def _total(*operands: Any) -> Any:
    total = operands[0]
    for operand in operands[1:]:
        total = total + operand
    return total


def _product(*operands: Any) -> Any:
    product = operands[0]
    for operand in operands[1:]:
        product = product * operand
    return product


def all_axes(a: Any) -> tuple[int, ...]:
    return tuple(range(a.dim()))


def _largest(*operands: Any) -> Any:
    largest = operands[0]
    for operand in operands[1:]:
        largest = torch.maximum(largest, operand)
    return largest


def _none(value: Any, *operands: Any) -> Any:
    """A value that PyTorch gives no gradient, with one of zeros in the operands."""
    return value + sum(operand.nan_to_num() * 0 for operand in operands)


def np_take(a: Any, i: Any, axis: int) -> Any:
    """NumPy's ``take``: the axes of the indices in place of the axis."""
    there = tuple(axis % a.dim() + k for k in range(i.dim()))
    return torch.movedim(torch.movedim(a, axis, 0)[i], tuple(range(i.dim())), there)


def _scattered(a: Any, i: Any, axis: int, size: int) -> Any:
    axis %= a.dim() - i.dim() + 1
    before, after = a.shape[:axis], a.shape[axis + i.dim() :]
    zeros = torch.zeros(*before, size, *after, dtype=a.dtype)
    return zeros.index_add(axis, i.reshape(-1) % size, a.reshape(*before, i.numel(), *after))


def _sliced(a: Any, own: Any) -> Any:
    for axis, (start, size, step) in enumerate(own):
        a = a.index_select(axis, start + step * torch.arange(size))
    return a


UNARY = {
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "softplus": lambda a: -F.logsigmoid(-a),
    "sin": torch.sin,
    "cos": torch.cos,
    "expm1": torch.expm1,
    "erf": torch.erf,
}

SAMPLES = [
    *(
        Sample(op, shapes, function)
        for op, function in (("add", _total), ("mul", _product), ("max", _largest))
        for shapes in (
            (normal(), normal()),
            (normal(3), normal(3)),
            (normal(2, 3), normal(3)),
            (normal(2, 1), normal(1, 3), normal()),
            (normal(0, 3), normal(3)),
            (normal(2), normal(2), normal(2), normal(2), normal(2)),
            (normal(),),
            (normal(2, 3),),
        )
    ),
    Sample("mul", (np.array([0.0, 2.0, 0.0]), np.array([3.0, 0.0, 0.0])), _product),
    Sample("mul", (np.array([0.0, 2.0]), np.array([3.0, 0.0]), np.array([5.0, 0.0])), _product),
    *(
        Sample(op, (operand,), function)
        for op, function in UNARY.items()
        for operand in (normal(), normal(2, 3), np.zeros((3, 0)), np.array([-30.0, -1e-12, 0.0, 1e-12, 3.0]))
    ),
    Sample("sigmoid", (np.array([-745.0, -100.0, 100.0, 745.0]),), torch.sigmoid),
    Sample("softplus", (np.array([-745.0, -100.0, 100.0, 745.0]),), lambda a: -F.logsigmoid(-a)),
    Sample("tanh", (np.array([-400.0, 400.0]),), torch.tanh),
    *(Sample("log", (operand,), torch.log) for operand in (positive(), positive(2, 3), np.ones((0, 2)))),
    *(
        Sample("log1p", (operand,), torch.log1p)
        for operand in (positive(), positive(2, 3), np.ones((0, 2)), np.array([-0.5, -1e-12, 0.0, 1e-12, 1e9]))
    ),
    *(
        Sample(op, operands, lambda a, b, f=f: _none(f(a, b).to(a.dtype), a, b))
        for op, f in (("less", torch.lt), ("equal", torch.eq))
        for operands in (
            (normal(), normal()),
            (np.array([1.0, 2.0, 0.0, 3.0]), np.array([2.0, 1.0, -0.0, 3.0])),
            (np.array([[1.0], [2.0]]), np.array([1.0, 3.0, 2.0])),
            (normal(0, 3), normal(3)),
        )
    ),
    *(
        Sample("select", operands, lambda c, a, b: _none(torch.where(c != 0, a, b), c))
        for operands in (
            (np.array(1.0), normal(), normal()),
            (np.array([1.0, 0.0, -0.0, np.nan, 1e-30]), normal(5), normal(5)),
            (np.array([[0.0], [2.0]]), normal(3), normal(2, 1)),
            (np.array([[0.0], [2.0]]), normal(), normal(2, 3)),
            (normal(0, 3), normal(3), normal()),
        )
    ),
    *(
        Sample("cumsum", (operand,), lambda a, k=axis: a.cumsum(k), {"axis": axis})
        for operand, axis in (
            (normal(4), 0),
            (normal(2, 3), 0),
            (normal(2, 3), -1),
            (normal(2, 3, 4), 1),
            (normal(2, 0), 1),
            (normal(0, 2), 1),
        )
    ),
    *(
        Sample("concatenate", operands, lambda *a, k=axis: torch.cat(a, k), {"axis": axis})
        for operands, axis in (
            ((normal(3),), 0),
            ((normal(3), normal(2)), 0),
            ((normal(3), normal(0), normal(1)), -1),
            ((normal(2, 3), normal(1, 3)), 0),
            ((normal(2, 3), normal(2, 1), normal(2, 2)), 1),
            ((normal(2, 3, 2), normal(2, 1, 2)), 1),
        )
    ),
    *(
        Sample(
            "slice",
            (operand,),
            lambda a, own=own: _sliced(a, own),
            {name: [x[i] for x in own] for i, name in enumerate(("starts", "sizes", "steps"))},
        )
        for operand, own in (
            (normal(), ()),
            (normal(5), ((1, 3, 1),)),
            (normal(5), ((4, 5, -1),)),
            (normal(5), ((4, 2, -3),)),
            (normal(5), ((0, 0, 1),)),
            (normal(4, 5), ((0, 4, 1), (1, 2, 2))),
            (normal(4, 5), ((3, 2, -2), (4, 3, -2))),
            (normal(2, 3, 4), ((1, 1, 1), (0, 3, 1), (3, 4, -1))),
        )
    ),
    Sample("slice", (normal(3, 2),), lambda a: a[1:], {"starts": (-2, 0), "sizes": (2, 2)}),
    *(
        Sample("scatter_add", (a, i), lambda a, i, k=axis, n=size: _scattered(a, i, k, n), {"axis": axis, "size": size})
        for a, i, axis, size in (
            (normal(), np.array(2), 0, 4),
            (normal(3), np.array([0, -1, 0]), 0, 4),
            (normal(3, 2), np.array([0, -1, 0]), 0, 4),
            (normal(2, 2, 3), np.array([[1, 1], [-4, 3]]), 0, 4),
            (normal(3, 2, 2), np.array([[1, 1], [-4, 3]]), 1, 4),
            (normal(3, 2, 2), np.array([[1, 1], [-4, 3]]), -1, 4),
            (normal(2, 3), np.array([2, 2, 2]), -1, 3),
            (normal(2), np.array(1), 1, 3),
            (normal(0, 2), np.zeros(0, np.int64), 0, 3),
            (normal(2, 0), np.array([1, 1]), 0, 3),
        )
    ),
    *(
        Sample("power", (operand,), lambda a, p=p: a**p, {"exponent": p})
        for p in (0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, 2.5, -0.5)
        for operand in (positive(), positive(2, 3), positive(0))
    ),
    *(Sample("power", (normal(4),), lambda a, p=p: a**p, {"exponent": p}) for p in (2.0, 3.0, -3.0)),
    *(
        Sample(
            "sum", (operand,), lambda a, k=axes, d=keep: a.sum(k or None, keepdim=d), {"axes": axes, "keepdims": keep}
        )
        for operand, axes in (
            (normal(2, 3), ()),
            (normal(2, 3), (0,)),
            (normal(2, 3, 4), (-1, 0)),
            (normal(2, 0), (1,)),
            (normal(0, 2), ()),
            (normal(1, 4), (0,)),
        )
        for keep in (False, True)
    ),
    *(
        Sample(
            op, (operand,), lambda a, f=f, k=axes, d=keep: f(a, k or all_axes(a), d), {"axes": axes, "keepdims": keep}
        )
        for op, f in (("reduce_max", torch.amax), ("logsumexp", torch.logsumexp))
        for operand, axes in (
            (normal(2, 3), ()),
            (normal(2, 3), (0,)),
            (normal(2, 3, 4), (-1, 0)),
            (normal(0, 2), (1,)),
            (normal(1, 4), (0,)),
            (normal(2, 3, 4), (1,)),
        )
        for keep in (False, True)
    ),
    Sample("logsumexp", (np.array([1000.0, 0.0, 1000.0, -1000.0]),), lambda a: torch.logsumexp(a, 0)),
    *(
        Sample("matmul", operands, torch.matmul)
        for operands in (
            (normal(3), normal(3)),
            (normal(2, 3), normal(3)),
            (normal(3), normal(3, 2)),
            (normal(2, 3), normal(3, 4)),
            (normal(5, 2, 3), normal(3, 4)),
            (normal(2, 3), normal(5, 3, 4)),
            (normal(5, 1, 2, 3), normal(6, 3, 4)),
            (normal(5, 2, 3), normal(3)),
            (normal(3), normal(5, 3, 4)),
            (normal(2, 0), normal(0, 4)),
            (normal(0, 3), normal(3, 4)),
        )
    ),
    *(
        Sample("reshape", (operand,), lambda a, s=shape: a.reshape(s), {"shape": shape})
        for operand, shape in (
            (normal(2, 3), (6,)),
            (normal(2, 3), (3, -1)),
            (normal(1), ()),
            (normal(), (1, 1)),
            (normal(0, 3), (3, 0)),
            (normal(4), (2, 2)),
        )
    ),
    *(
        Sample("transpose", (operand,), lambda a, p=axes: a.permute(*p), {"axes": axes})
        for operand, axes in (
            (normal(2, 3), (1, 0)),
            (normal(2, 3, 4), (2, 0, 1)),
            (normal(2, 3, 4), (-1, 0, -2)),
            (normal(0, 3), (1, 0)),
        )
    ),
    Sample("transpose", (normal(2, 3, 4),), lambda a: a.permute(2, 1, 0)),
    *(
        Sample("take", (rows, indices), lambda a, i: a[i])
        for rows, indices in (
            (normal(4), np.array(2)),
            (normal(4, 3), np.array([0, -1, 0, 2])),
            (normal(4, 3), np.array([[1, 1], [-4, 3]])),
            (normal(4, 3), np.zeros(0, np.int64)),
            (normal(4, 0), np.array([1, 2])),
            (normal(3, *DEEP[1:]), np.array([2, 0, 2])),
        )
    ),
    *(
        Sample("take", (a, i), lambda a, i, k=axis: np_take(a, i, k), {"axis": axis})
        for a, i, axis in (
            (normal(3, 4), np.array(2), 1),
            (normal(3, 4), np.array(-1), -1),
            (normal(3, 4, 2), np.array([0, -1, 0, 2]), 1),
            (normal(3, 4, 2), np.array([[1, 1], [-2, 0]]), -1),
            (normal(3, 4), np.zeros(0, np.int64), 1),
        )
    ),
    *(
        Sample(op, (normal(*DEEP), normal(*DEEP)), f)
        for op, f in (("add", _total), ("mul", _product), ("max", _largest))
    ),
    *(Sample(op, (normal(*DEEP),), function) for op, function in UNARY.items()),
    Sample("less", (normal(*DEEP), normal(*DEEP)), lambda a, b: _none((a < b).to(a.dtype), a, b)),
    Sample(
        "select", (np.ones(DEEP), normal(*DEEP), normal(*DEEP)), lambda c, a, b: _none(torch.where(c != 0, a, b), c)
    ),
    Sample("cumsum", (normal(*DEEP),), lambda a: a.cumsum(31), {"axis": -1}),
    Sample("concatenate", (normal(*DEEP), normal(*DEEP)), lambda a, b: torch.cat([a, b], 31), {"axis": -1}),
    Sample("slice", (normal(*DEEP),), lambda a: a[1:], {"starts": (1, *(0,) * 31), "sizes": (1, *DEEP[1:])}),
    Sample("take", (normal(*DEEP), np.array([1, 0, 1])), lambda a, i: np_take(a, i, 31), {"axis": 31}),
    Sample(
        "scatter_add", (normal(*DEEP), np.zeros(2, int)), lambda a, i: _scattered(a, i, 31, 3), {"axis": 31, "size": 3}
    ),
    *(Sample("stop_gradient", (a,), lambda a: _none(a.detach(), a)) for a in (normal(), normal(2, 3), normal(0, 2))),
    Sample("stop_gradient", (normal(*DEEP),), lambda a: _none(a.detach(), a)),
    Sample("log", (positive(*DEEP),), torch.log),
    Sample("power", (positive(*DEEP),), lambda a: a**2.5, {"exponent": 2.5}),
    Sample("sum", (normal(*DEEP),), lambda a: a.sum((0, 31)), {"axes": (0, -1)}),
    Sample("reduce_max", (normal(*DEEP),), lambda a: a.amax((0, 31)), {"axes": (0, -1)}),
    Sample("logsumexp", (normal(*DEEP),), lambda a: a.logsumexp((0, 31)), {"axes": (0, -1)}),
    Sample("matmul", (normal(*DEEP[:-1], 3), normal(*DEEP[:-2], 3, 2)), torch.matmul),
    Sample("reshape", (normal(4),), lambda a: a.reshape(DEEP), {"shape": DEEP}),
    Sample("transpose", (normal(*DEEP),), lambda a: a.permute(*reversed(range(32)))),
    Sample(
        "scalars",
        (normal(2), normal(1, 2), normal()),
        lambda a, b, c: torch.stack([torch.exp(a[1] * b[0, 1]) + c, b[0, 0], a[1] * b[0, 1]]),
        columns([("mul", [1, 3]), ("exp", [5]), ("add", [6, 4])], [7, 2, 5]),
    ),
    Sample(
        "scalars",
        (normal(2), np.array([0.3, 0.3])),
        lambda a, b: torch.stack(
            [
                _none(torch.tensor(1.0), *a, *b),
                torch.where(b[0] == b[1], torch.sin(a[0]), a[1]),
                torch.cos(torch.log1p(b[1])) + torch.erf(a[1]) * torch.expm1(a[0]) + (a[0] < a[1]).to(a.dtype),
            ]
        ),
        columns(
            [
                ("equal", [2, 3]),
                ("sin", [0]),
                ("select", [4, 5, 1]),
                ("log1p", [3]),
                ("cos", [7]),
                ("erf", [1]),
                ("expm1", [0]),
                ("mul", [9, 10]),
                ("less", [0, 1]),
                ("add", [8, 11]),
                ("add", [13, 12]),
            ],
            [4, 6, 14],
        ),
    ),
    Sample(
        "scalars",
        (normal(3),),
        lambda a: torch.stack([(a[0] + a[1] + a[2]) * 3 * a[0], torch.tanh(a[2]) ** 3 + a[0] * 0]),
        columns([("add", [0, 1, 2]), ("mul", [4, 3, 0]), ("tanh", [2]), ("power", [6], 3.0)], [5, 7], [3.0]),
    ),
    Sample(
        "scalars",
        (normal(2), normal(0)),
        lambda a, b: torch.stack(
            [
                torch.sigmoid(a[0]) - F.logsigmoid(-a[1]),
                torch.maximum(torch.maximum(a[0], a[1]), torch.tensor(0.5)),
                torch.log(a[1] * a[1]),
                a[1] * a[1] + b.sum(),
            ]
        ),
        columns(
            [
                ("sigmoid", [0]),
                ("softplus", [1]),
                ("add", [3, 4]),
                ("max", [0, 1, 2]),
                ("exp", [2]),  # nobody needs it
                ("mul", [1, 1]),
                ("log", [8]),
            ],
            [5, 6, 9, 8],
            [0.5],
        ),
    ),
]

SWARM = columns([("mul", [0, 1]), ("add", [2, 2, 0]), ("power", [4], 2.0)], [3, 5], [1.0])
"""Three operations, at positions 3 to 5, on two elements."""


def wrong(field: str, *numbers: float) -> dict[str, Any]:
    """The swarm with other numbers in a column."""
    return {**SWARM, field: np.array(numbers, SWARM[field].dtype)}


MISUSES = [
    *(Misuse(op, (), ("0 operands", "1 or more"), path="operands") for op in ("add", "mul", "max")),
    *(Misuse(op, ((2,), (3,)), ("(2,)", "(3,)", "broadcast"), path="operands") for op in ("add", "mul", "max")),
    *(Misuse(op, ((2,), int), ("int64", "float"), path="operands[1]") for op in ("add", "mul", "max")),
    *(
        Misuse(op, ((), ()), ("2 operands", "exactly 1"), path="operands")
        for op in (*UNARY, "log", "log1p", "sum", "reduce_max", "logsumexp", "reshape", "transpose", "slice", "cumsum")
    ),
    *(
        Misuse("stop_gradient", operands, words, path="operands")
        for operands, words in (((), ("0 operands", "exactly 1")), (((), ()), ("2 operands", "exactly 1")))
    ),
    *(
        Misuse(op, (int,), ("int64", "float"), path="operands[0]")
        for op in (*UNARY, "log", "log1p", "cumsum", "slice", "concatenate", "stop_gradient")
    ),
    *(Misuse(op, ((),), ("1 operands", "exactly 2"), path="operands") for op in ("less", "equal", "scatter_add")),
    *(Misuse(op, ((2,), (3,)), ("(2,)", "(3,)", "broadcast"), path="operands") for op in ("less", "equal")),
    Misuse("select", ((), ()), ("2 operands", "exactly 3"), path="operands"),
    Misuse("select", ((), (2,), (3,)), ("(2,)", "(3,)", "broadcast"), path="operands"),
    Misuse("cumsum", ((),), ("scalar", "axis")),
    Misuse("cumsum", ((2, 3),), ("axis 2", "2 axes"), {"axis": 2}, "axis"),
    Misuse("concatenate", (), ("0 operands", "1 or more"), path="operands"),
    Misuse("concatenate", ((), ()), ("scalar", "(1,)"), path="operands[0]"),
    Misuse("concatenate", ((2, 3),), ("axis -3", "2 axes"), {"axis": -3}, "axis"),
    Misuse("concatenate", ((2, 3), (2, 4)), ("(2, 3)", "(2, 4)", "axis 0"), path="operands[1]"),
    Misuse("concatenate", ((2, 3), (2,)), ("(2, 3)", "(2,)"), path="operands[1]"),
    Misuse("slice", ((2, 3),), ("1 starts", "(2, 3)"), {"starts": [0], "sizes": [2, 3]}, "starts"),
    Misuse("slice", ((2, 3),), ("0 sizes", "2 axes"), {"starts": [0, 0]}, "sizes"),
    Misuse("slice", ((2,),), ("2 steps",), {"starts": [0], "sizes": [1], "steps": [1, 1]}, "steps"),
    Misuse("slice", ((2,),), ("size -1", "negative"), {"starts": [0], "sizes": [-1]}, "sizes[0]"),
    Misuse("slice", ((2,),), ("step 0",), {"starts": [0], "sizes": [1], "steps": [0]}, "steps[0]"),
    Misuse("slice", ((2,),), ("start 2", "size 2"), {"starts": [2], "sizes": [1]}, "starts[0]"),
    Misuse("slice", ((2,),), ("start -3", "size 2"), {"starts": [-3], "sizes": [1]}, "starts[0]"),
    Misuse("slice", ((4,),), ("3 elements from 1", "5"), {"starts": [1], "sizes": [3], "steps": [2]}, "sizes[0]"),
    Misuse("slice", ((4,),), ("end with -1",), {"starts": [1], "sizes": [3], "steps": [-1]}, "sizes[0]"),
    Misuse("slice", ((4,),), ("end with",), {"starts": [0], "sizes": [2**62], "steps": [2**62]}, "sizes[0]"),
    Misuse("take", ((2, 3), np.array([2])), ("axis 2", "2 axes"), {"axis": 2}, "axis"),
    Misuse("take", ((2, 3), np.array([3])), ("index 3", "3 rows"), {"axis": 1}, "operands[1]"),
    Misuse("scatter_add", ((2,), (2,)), ("floats", "int64"), {"size": 2}, "operands[1]"),
    Misuse("scatter_add", ((2,), np.array([0, 2])), ("index 2", "2 rows"), {"size": 2}, "operands[1]"),
    Misuse("scatter_add", ((2,), np.array([0, 0])), ("index 0", "0 rows"), {}, "operands[1]"),
    Misuse("scatter_add", ((2,), np.array([0, 0])), ("size -1", "negative"), {"size": -1}, "size"),
    Misuse("scatter_add", ((), np.array([0])), ("(1,)", "more axes"), {"size": 1}, "operands"),
    Misuse("scatter_add", ((3, 2), np.array([0])), ("(1,)", "(3, 2)"), {"size": 1}, "operands"),
    Misuse("scatter_add", ((3,), np.array([0, 0, 0])), ("axis 1", "1 axes"), {"axis": 1, "size": 1}, "axis"),
    Misuse("power", ((),), ("exponent", "not set"), {"exponent": None}, "exponent"),
    Misuse("power", ((),), ("exponent", "nan", "finite"), {"exponent": np.nan}, "exponent"),
    Misuse("power", ((),), ("exponent", "inf", "finite"), {"exponent": np.inf}, "exponent"),
    *(
        Misuse(op, ((2, 3),), words, {"axes": axes}, "axes")
        for op in ("sum", "reduce_max", "logsumexp")
        for axes, words in (((2,), ("2", "(2, 3)")), ((-3,), ("-3", "(2, 3)")), ((0, -2), ("0", "twice")))
    ),
    *(
        misuse
        for op in ("reduce_max", "logsumexp")
        for misuse in (
            Misuse(op, ((2, 0),), ("axis 1", "(2, 0)", "empty"), {"axes": (1,)}),
            Misuse(op, ((0,),), ("empty",)),
        )
    ),
    Misuse("matmul", ((), (3,)), ("scalar", "mul"), path="operands[0]"),
    Misuse("matmul", ((3,), ()), ("scalar", "mul"), path="operands[1]"),
    Misuse("matmul", ((2, 3), (2, 3)), ("(2, 3)", "3", "2"), path="operands"),
    Misuse("matmul", ((4, 2, 3), (5, 3, 2)), ("(4, 2, 3)", "(5, 3, 2)", "broadcast"), path="operands"),
    Misuse("reshape", ((2, 3),), ("6 elements", "(4,)", "4"), {"shape": (4,)}, "shape"),
    Misuse("reshape", ((2, 3),), ("6 elements", "(4, -1)"), {"shape": (4, -1)}, "shape"),
    Misuse("reshape", ((2, 3),), ("-1 more than once",), {"shape": (-1, -1)}, "shape[1]"),
    Misuse("reshape", ((2, 3),), ("-2", "negative"), {"shape": (-2, 3)}, "shape[0]"),
    Misuse("reshape", ((0, 3),), ("axis 1", str(2**62)), {"shape": (0, 2**62)}, "shape"),
    Misuse("reshape", ((1,),), ("60000 axes", "32"), {"shape": (2**62,) * 60_000}, "shape"),
    Misuse("reshape", ((0, 3),), ("(0, -1)",), {"shape": (0, -1)}, "shape"),
    Misuse("transpose", ((2, 3),), ("1 axes", "2"), {"axes": (0,)}, "axes"),
    Misuse("transpose", ((2, 3),), ("twice",), {"axes": (0, 0)}, "axes"),
    Misuse("transpose", ((2, 3),), ("2", "(2, 3)"), {"axes": (0, 2)}, "axes"),
    Misuse("take", ((2, 3), (2,)), ("floats", "int64"), path="operands[1]"),
    Misuse("take", ((), int), ("scalar", "rows"), path="operands[0]"),
    Misuse("take", ((2, 3), np.array([0, 2])), ("index 2", "(1,)", "2 rows")),
    Misuse("take", ((2, 3), np.array([-3])), ("index -3", "2 rows")),
    Misuse("take", ((0, 3), np.array([0])), ("index 0", "0 rows")),
    Misuse("scalars", ((), int), ("int64", "float"), SWARM, "operands[1]"),
    *(
        Misuse("scalars", ((2,),), words, wrong(field, *numbers), path)
        for field, numbers, path, words in (
            ("ops", (1, 0, 9), "ops[1]", ("operation 1", "no op", "SCALAR_OP_ADD", "SCALAR_OP_POWER")),
            ("ops", (1, 2, 18), "ops[2]", ("operation 2", "unknown op 18")),
            ("ops", (1, 15, 17), "arities[1]", ("operation 1 (position 4, less)", "3 arguments", "exactly 2")),
            ("ops", (1, -1, 9), "ops[1]", ("operation 1", "unknown op -1")),
            ("arities", (2, 3), "arities", ("2 arities", "3 operations")),
            ("arities", (2, 0, 3), "arities[1]", ("operation 1 (position 4, add)", "0 arguments", "1 or more")),
            ("arities", (2, 2, 2), "arities[2]", ("operation 2 (position 5, power)", "2 arguments", "exactly 1")),
            ("arities", (), "arguments", ("6 arguments", "take 5")),
            ("arguments", (0, 1, 2, 2, 0), "arguments", ("5 arguments", "take 6")),
            ("arguments", (0, 3, 2, 2, 0, 4), "arguments[1]", ("operation 0 (position 3, mul)", "itself", "below 3")),
            ("arguments", (0, 1, 2, 5, 0, 4), "arguments[3]", ("operation 1 (position 4, add)", "later", "below 4")),
            ("arguments", (0, 1, 2, 99, 0, 4), "arguments[3]", ("position 99", "below 4")),
            ("exponents", (), "exponents", ("0 exponents", "1 operations")),
            ("exponents", (1, 2), "exponents", ("2 exponents", "1 operations")),
            ("exponents", (np.inf,), "exponents[0]", ("operation 2 (position 5, power)", "inf", "finite")),
            ("exponents", (np.nan,), "exponents[0]", ("nan", "finite")),
            ("results", (), "results", ("no results", "at least one")),
            ("results", (0, 6), "results[1]", ("result 1", "position 6", "below 6")),
        )
    ),
]


def test_every_op_has_samples_and_misuses() -> None:
    written = {*OPS, "scalars"}
    assert {sample.op for sample in SAMPLES} == written
    assert {misuse.op for misuse in MISUSES} == written


def _loss(sample: Sample) -> tuple[Builder, dict[str, Any], int]:
    """The sample as a graph whose loss tells the elements of the result apart; the arrays; the index of the result."""
    builder = Builder()
    arrays: dict[str, Any] = {}
    operands = []
    for slot, value in enumerate(sample.operands):
        if np.asarray(value).dtype == np.int64:
            operands.append(builder.constant(value))
        else:
            arrays[f"p{slot}"] = np.asarray(value)
            operands.append(builder.parameter(f"p{slot}", np.shape(value)))
    result = builder.op(sample.op, *operands, name="result", **sample.attributes)
    weights = builder.constant(_weights(_value(sample).shape))
    builder.op("sum", builder.op("mul", result, weights))
    return builder, arrays, result


def _weights(shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    return np.linspace(1, 2, count).reshape(shape)


def _value(sample: Sample) -> Any:
    return sample.torch(*map(torch.tensor, sample.operands)).numpy()


IDS = [f"{sample.op}-{i}" for i, sample in enumerate(SAMPLES)]


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 2e-5)])
def test_value_and_gradient_are_those_of_torch(sample: Sample, dtype: type, rtol: float) -> None:
    builder, arrays, result = _loss(sample)
    evaluation = evaluate(builder.program(), arrays, dtype, outputs=(result,))
    theirs = [torch.tensor(value, requires_grad=np.asarray(value).dtype != np.int64) for value in sample.operands]
    expected = sample.torch(*theirs)
    (expected * torch.tensor(_weights(tuple(expected.shape)))).sum().backward()
    assert evaluation.outputs[result].dtype == dtype
    np.testing.assert_allclose(
        evaluation.outputs[result], expected.detach().numpy(), rtol=rtol, atol=1e-7 if dtype == np.float32 else 1e-15
    )
    for slot, operand in enumerate(theirs):
        if operand.requires_grad:
            gradient = evaluation.gradients[f"p{slot}"]
            assert (gradient.dtype, gradient.shape) == (dtype, tuple(operand.shape))
            assert operand.grad is not None
            np.testing.assert_allclose(
                gradient, operand.grad.numpy(), rtol=10 * rtol, atol=1e-7 if dtype == np.float32 else 1e-14
            )


SMOOTH = [
    sample
    for sample in SAMPLES
    if sample.op != "stop_gradient" and (sample.op != "less" or not np.any(np.equal(*sample.operands)))
]
"""Without those that jump within a step, or have no gradient though they move."""


@pytest.mark.parametrize("sample", SMOOTH, ids=[f"{sample.op}-{i}" for i, sample in enumerate(SMOOTH)])
def test_gradient_is_that_of_finite_differences(sample: Sample) -> None:
    builder, arrays, _ = _loss(sample)
    program = builder.program()
    gradients = evaluate(program, arrays).gradients
    for name, array in arrays.items():
        for place in np.ndindex(array.shape):
            step = 1e-6 * max(1.0, abs(array[place]))
            losses = []
            for sign in (1, -1):
                moved = array.copy()
                moved[place] += sign * step
                losses.append(float(evaluate(program, arrays | {name: moved}, wrt=()).loss))
            numeric = (losses[0] - losses[1]) / (2 * step)
            np.testing.assert_allclose(gradients[name][place], numeric, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_per_example_operands_give_what_single_calls_give(sample: Sample) -> None:
    """Every way to have operands vary with the example, or not, against one call an example."""
    examples = 3
    floats = [slot for slot, value in enumerate(sample.operands) if np.asarray(value).dtype != np.int64]
    single, arrays, _ = _loss(sample)
    program = single.program()
    scales = [1.0, 0.7, 1.2]
    for varying in {tuple(floats), tuple(floats[:1]), tuple(floats[-1:])}:
        builder = Builder()
        for slot, value in enumerate(sample.operands):
            if slot not in floats:
                builder.constant(value)
            elif slot in varying:
                builder.input(f"p{slot}", np.shape(value), per_example=True)
            else:
                builder.parameter(f"p{slot}", np.shape(value))
        count = len(sample.operands)
        result = builder.op(sample.op, *range(count), **sample.attributes)
        builder.op("sum", builder.op("mul", result, builder.constant(_weights(_value(sample).shape))))
        rows = {
            name: np.stack([scale * array for scale in scales]) if int(name[1:]) in varying else array
            for name, array in arrays.items()
        }
        together = evaluate(builder.program(), rows, reduction=Reduction.NONE, wrt=tuple(arrays))
        for example in range(examples):
            alone = {name: array[example] if int(name[1:]) in varying else array for name, array in rows.items()}
            expected = evaluate(program, alone)
            np.testing.assert_allclose(together.loss[example], expected.loss, rtol=1e-12)
            for name in arrays:
                np.testing.assert_allclose(
                    together.gradients[name][example], expected.gradients[name], rtol=1e-11, atol=1e-14
                )


@pytest.mark.parametrize("misuse", MISUSES, ids=[f"{misuse.op}-{i}" for i, misuse in enumerate(MISUSES)])
def test_wrong_use_is_refused_with_what_was_found_and_expected(misuse: Misuse) -> None:
    builder = Builder()
    for slot, operand in enumerate(misuse.operands):
        if operand is int:
            builder.input(f"p{slot}", (), integer=True)
        elif isinstance(operand, np.ndarray):
            builder.constant(operand)
        else:
            builder.parameter(f"p{slot}", operand)
    node = builder.op(misuse.op, *range(len(misuse.operands)), name="culprit", **misuse.attributes)
    refusal = refusal_of(builder)
    finding = refusal.findings[0]
    assert [word for word in ('"culprit"', *misuse.words) if word not in finding.message] == [], finding.message
    assert finding.path.startswith(f"nodes[{node}].{misuse.op}" + (f".{misuse.path}" if misuse.path else "")), (
        finding.path
    )


def test_a_scatter_into_more_rows_than_a_tensor_may_have_is_refused() -> None:
    builder = Builder()
    builder.op("scatter_add", builder.parameter("a", (1,)), builder.constant(np.array([0])), axis=0, size=2**58)
    [finding] = refusal_of(builder).findings
    assert "at most" in finding.message
    assert "max_tensor_bytes" in finding.message


TIES = [
    ("max", ([2.0], [2.0]), [[0.0], [0.0]], [[0.5], [0.5]]),
    ("max", ([2.0], [2.0], [2.0]), [[0.0]] * 3, [[1 / 3]] * 3),
    ("max", ([2.0], [2.0], [1.0]), [[0.0]] * 3, [[0.5], [0.5], [0.0]]),
    ("max", ([0.0], [-0.0]), [[0.0], [0.0]], [[0.5], [0.5]]),
    ("max", ([1.0], [3.0]), [[0.0], [1.0]], [[0.0], [1.0]]),
    ("reduce_max", ([2.0, 2.0, 1.0],), [[0.0, 0.0, 0.0]], [[0.5, 0.5, 0.0]]),
    ("reduce_max", ([1.0, 2.0],), [[0.0, 1.0]], [[0.0, 1.0]]),
]


@pytest.mark.parametrize(("op", "operands", "zero", "split"), TIES, ids=range(len(TIES)))
@pytest.mark.parametrize("ties", list(Ties))
def test_ties(op: str, operands: Any, zero: Any, split: Any, ties: Ties) -> None:
    builder = Builder()
    for slot, operand in enumerate(operands):
        builder.parameter(f"p{slot}", np.shape(operand))
    builder.op("sum", builder.op(op, *range(len(operands))))
    gradients = evaluate(
        builder.program(ties=ties), {f"p{slot}": operand for slot, operand in enumerate(operands)}
    ).gradients
    expected = zero if ties is Ties.ZERO else split
    assert [gradients[f"p{slot}"].tolist() for slot in range(len(operands))] == expected
