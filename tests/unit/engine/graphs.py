"""Writing graphs for the engine, node by node, and asking it of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine import (
    Constant,
    Evaluation,
    Graph,
    Input,
    Limits,
    Node,
    NonFinite,
    Operation,
    Parameter,
    Program,
    Query,
    Ties,
    bind,
    compile_graph,
    run,
)
from gradwire_server.errors import Refusal

LIMITS = Limits()


class Builder:
    """Collects nodes; every method returns the index of the node it adds."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def parameter(self, name: str, shape: tuple[int, ...] = ()) -> int:
        return self._add(Parameter(name=name, shape=shape))

    def input(self, name: str, shape: tuple[int, ...] = (), *, per_example: bool = False, integer: bool = False) -> int:
        return self._add(Input(name=name, shape=shape, per_example=per_example, integer=integer))

    def constant(self, value: Any) -> int:
        return self._add(Constant(value=value if is_rows(value) else np.asarray(value, np.float64)))

    def op(self, op: str, *operands: int, name: str = "", **attributes: Any) -> int:
        return self._add(
            Operation(name=name, op=op, operands=operands, attributes={**DEFAULTS.get(op, {}), **attributes})
        )

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def graph(self, loss: int = -1, ties: Ties = Ties.ZERO) -> Graph:
        return Graph(nodes=tuple(self.nodes), loss=loss % len(self.nodes), ties=ties)

    def program(self, loss: int = -1, ties: Ties = Ties.ZERO) -> Program:
        return compile_graph(self.graph(loss, ties), LIMITS)


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "sum": {"axes": (), "keepdims": False},
    "reduce_max": {"axes": (), "keepdims": False},
    "transpose": {"axes": ()},
}
"""Fields as the wire has them when they are not set."""


def is_rows(value: Any) -> bool:
    """Whether it is meant as row indices: an array of int64, not just whole numbers."""
    return isinstance(value, np.ndarray) and value.dtype == np.int64


def nothing() -> None:
    """A checkpoint for those who wait."""


def evaluate(program: Program, arrays: Mapping[str, Any], dtype: type = np.float64, **query: Any) -> Evaluation:
    """The result of a query on arrays of this dtype; arrays of int64 stay so, for rows."""
    given = {name: np.asarray(value, None if is_rows(value) else dtype, order="C") for name, value in arrays.items()}
    asked = Query(arrays=given, dtype=np.dtype(dtype), **query)
    return run(bind(program, asked, LIMITS), nothing)


def refusal_of(builder: Builder, loss: int = -1) -> Refusal:
    """Why a graph is refused."""
    try:
        builder.program(loss)
    except Refusal as refusal:
        return refusal
    raise AssertionError("the graph was taken")


def refused(builder: Builder, arrays: dict[str, Any], **query: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        evaluate(builder.program(), arrays, **query)
    return raised.value


def unary(op: str, x: Any, **attributes: Any) -> Evaluation:
    """The sum of an op of x."""
    builder = Builder()
    result = builder.op(op, builder.parameter("x", np.shape(x)), **attributes)
    builder.op("sum", result)
    return evaluate(builder.program(), {"x": x}, outputs=(result,))


def reported(builder: Builder, arrays: dict[str, Any], **query: Any) -> NonFinite:
    """The report on a graph."""
    report = evaluate(builder.program(), arrays, **query).non_finite
    assert report is not None
    return report


def shown(report: NonFinite) -> dict[str, float]:
    """Its operands, by name."""
    return {operand.name: operand.value for operand in report.operands}


def squares(**source: Any) -> Builder:
    """(w x)^2 of a per-example x."""
    builder = Builder()
    product = builder.op("mul", builder.parameter("w"), builder.input("x", per_example=True), name="product")
    builder.op("mul", product, product)
    return builder
