"""Writing graphs for the engine, node by node, and asking it of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradwire.v1 import graph_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.codec.graphs import decode_graph
from gradwire_server.engine.explain.nonfinite import NonFinite
from gradwire_server.engine.graph.graph import Graph, Ties
from gradwire_server.engine.run.evaluation import Evaluation, run
from gradwire_server.engine.run.job import bind
from gradwire_server.engine.run.program import Program, compile_graph
from gradwire_server.engine.run.query import Query
from gradwire_server.errors import Refusal
from gradwire_server.limits import Limits
from tests.unit.engine.bounds import check_bounds

LIMITS = Limits()
LOOKED_AT = 1 << 14
"""Integers of code from which on it takes too long to look at all of them."""

TIES = {Ties.ZERO: pb.TIE_RULE_ZERO, Ties.SPLIT: pb.TIE_RULE_SPLIT}


class Builder:
    """Collects nodes; every method returns the index of the node it adds."""

    def __init__(self) -> None:
        self.nodes: list[pb.Node] = []

    def parameter(self, name: str, shape: tuple[int, ...] = ()) -> int:
        return self._add(pb.Node(name=name, parameter=pb.Parameter(shape=shape)))

    def input(self, name: str, shape: tuple[int, ...] = (), *, per_example: bool = False, integer: bool = False) -> int:
        dtype = tensor_pb2.DTYPE_INT64 if integer else tensor_pb2.DTYPE_UNSPECIFIED
        return self._add(pb.Node(name=name, input=pb.Input(shape=shape, per_example=per_example, dtype=dtype)))

    def constant(self, value: Any, name: str = "") -> int:
        array = value if is_rows(value) else np.asarray(value, np.float64)
        dtype = tensor_pb2.DTYPE_INT64 if is_rows(value) else tensor_pb2.DTYPE_FLOAT64
        tensor = tensor_pb2.Tensor(dtype=dtype, shape=array.shape, raw=array.tobytes())
        return self._add(pb.Node(name=name, constant=pb.Constant(value=tensor)))

    def op(self, op: str, *operands: int, name: str = "", **attributes: Any) -> int:
        node = pb.Node(name=name)
        box = getattr(node, op)
        box.SetInParent()
        box.operands.extend(operands)
        for field, value in attributes.items():
            if isinstance(value, tuple | list | np.ndarray):
                getattr(box, field).extend(np.asarray(value).tolist())
            elif value is not None:
                setattr(box, field, value)
        return self._add(node)

    def _add(self, node: pb.Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def message(self, loss: int = -1, ties: Ties = Ties.ZERO) -> pb.Graph:
        return pb.Graph(nodes=self.nodes, loss=loss % len(self.nodes), ties=TIES[ties])

    def graph(self, loss: int = -1, ties: Ties = Ties.ZERO) -> Graph:
        return decode_graph(self.message(loss, ties), LIMITS)

    def program(self, loss: int = -1, ties: Ties = Ties.ZERO) -> Program:
        return compile_graph(self.graph(loss, ties), LIMITS)


def is_rows(value: Any) -> bool:
    """Whether it is meant as row indices: an array of int64, not just whole numbers."""
    return isinstance(value, np.ndarray) and value.dtype == np.int64


def nothing() -> None:
    """A checkpoint for those who wait."""


def evaluate(program: Program, arrays: Mapping[str, Any], dtype: type = np.float64, **query: Any) -> Evaluation:
    """The result of a query on arrays of this dtype; arrays of int64 stay so, for rows."""
    given = {name: np.asarray(value, None if is_rows(value) else dtype, order="C") for name, value in arrays.items()}
    asked = Query(arrays=given, dtype=np.dtype(dtype), **query)
    job = bind(program, asked, LIMITS)
    if len(job.bound.code.rows) < LOOKED_AT:
        check_bounds(job)
    return run(job, nothing)


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
