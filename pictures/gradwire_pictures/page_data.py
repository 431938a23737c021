"""What a page shows of a graph and its trace, as JSON: scalars in full, of tensors as much as fits."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from gradwire._arrays import Array, decode_tensor
from gradwire._errors import InvalidGraphError
from gradwire._pictures.checking import check, operands_of
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2

Json: TypeAlias = Any

MAX_NODES, MAX_OPERANDS = 20_000, 200_000
"""Nodes, and operands of all of them, that a browser still opens."""

_ELEMENTS = 200_000
"""Numbers of all tensors together."""
_FEWEST, _MOST = 4, 64
"""Bounds on the numbers of one tensor."""
_DIGITS = 4
"""Digits of what is only drawn."""

_PHASES = {
    pb.NonFinite.PHASE_VALUE: "value",
    pb.NonFinite.PHASE_GRADIENT: "gradient",
    pb.NonFinite.PHASE_REDUCTION: "reduction",
}


def page_data(graph: graph_pb2.Graph, trace: pb.TraceGraphResponse | None, title: str | None) -> Json:
    """The object that the page reads.

    Raises:
        GradwireError: The graph is too large for a browser, or breaks a rule.
    """
    check(graph, MAX_NODES, MAX_OPERANDS, "a page")
    edges = sum(len(node.operands) for node in trace.nodes) if trace else 0
    room = max(_FEWEST, min(_MOST, _ELEMENTS // (2 * len(graph.nodes) + edges)))
    nodes = [_node(graph, trace, index, room) for index in range(len(graph.nodes))]
    return {
        "title": title or graph.nodes[graph.loss].name or "loss",
        "loss": graph.loss,
        "split": graph.ties == graph_pb2.TIE_RULE_SPLIT,
        "traced": trace is not None,
        "nonFinite": _non_finite(trace) if trace is not None and trace.HasField("non_finite") else None,
        "nodes": nodes,
    }


def _node(graph: graph_pb2.Graph, trace: pb.TraceGraphResponse | None, index: int, room: int) -> Json:
    node = graph.nodes[index]
    kind = node.WhichOneof("kind") or "constant"
    shown = {"name": node.name or f"{kind}_{index}", "named": bool(node.name), "op": kind, **_attributes(node, kind)}
    if trace is None:
        value = _constant(node, index, room) if kind == "constant" else None
        return {**shown, "value": value, "operands": operands_of(node)}
    traced = trace.nodes[index]
    return {
        **shown,
        "name": traced.name,
        "value": _tensor(traced.value, room),
        "gradient": _tensor(traced.gradient, room) if traced.HasField("gradient") else None,
        "operands": [edge.node for edge in traced.operands],
        "edges": [_tensor(edge.gradient, room) if edge.HasField("gradient") else None for edge in traced.operands],
    }


def _attributes(node: graph_pb2.Node, kind: str) -> Json:
    if kind == "power":
        return {"exponent": node.power.exponent}
    if kind == "scalars":
        return {"count": len(node.scalars.ops)}
    if kind in ("parameter", "input"):
        return {"shape": list(getattr(node, kind).shape)}
    box = getattr(node, kind)
    if hasattr(box, "axis"):
        return {"axis": box.axis}
    return {"axes": list(box.axes)} if getattr(box, "axes", ()) else {}


def _constant(node: graph_pb2.Node, index: int, room: int) -> Json:
    try:
        return _tensor(node.constant.value, room)
    except ValueError as error:
        raise InvalidGraphError(f"nodes[{index}] is a constant whose elements do not fit its shape: {error}") from error


def _non_finite(trace: pb.TraceGraphResponse) -> Json:
    report = trace.non_finite
    return {
        "phase": _PHASES[report.phase],
        "node": report.node,
        "position": list(report.position),
        "value": number(report.value),
        "operands": [{"name": operand.name, "value": number(operand.value)} for operand in report.operands],
    }


def _tensor(message: tensor_pb2.Tensor, room: int) -> Json:
    """A number where the tensor is one; else its shape, its first elements, and bars for all of them."""
    array = decode_tensor(message)
    if array.ndim == 0:
        return number(array.item())
    flat = array.reshape(-1)
    shown: dict[str, Json] = {"shape": list(array.shape), "norm": number(_norm(flat))}
    if flat.size <= room:
        return {**shown, "values": [number(value) for value in flat.tolist()]}
    return {
        **shown,
        "values": [number(value) for value in flat[:_FEWEST].tolist()],
        "bars": [number(float(f"{value:.{_DIGITS}g}")) for value in _largest(flat, room).tolist()],
    }


def _norm(flat: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(flat.astype(np.float64)))


def _largest(flat: Array, bins: int) -> Array:
    """The element of largest magnitude in each of as many parts of a tensor."""
    starts = np.arange(bins) * flat.size // bins
    high, low = np.maximum.reduceat(flat, starts), np.minimum.reduceat(flat, starts)
    largest: Array = np.where(np.abs(high) >= np.abs(low), high, low)
    return largest


def number(value: float) -> float | str:
    """A number of JSON, or the word that JavaScript reads as it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
