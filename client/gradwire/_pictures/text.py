"""Graphs as plain text, for terminals: a line for each node, with its value, its gradient and what it sends back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradwire._arrays import Array, decode_tensor
from gradwire._pictures.checking import check, operands_of
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2

MAX_NODES, MAX_OPERANDS = 100_000, 1_000_000
"""Nodes, and operands of all of them, that are still written."""

_ALL_ELEMENTS, _OPERANDS, _NAME = 4, 4, 28
"""Elements up to which a tensor is written out, operands that a line lists, characters of a name."""


def text_of(graph: graph_pb2.Graph, trace: pb.TraceGraphResponse | None = None, *, title: str | None = None) -> str:
    """A table of a graph, operands above what is computed from them.

    Raises:
        GradwireError: The graph has over 100,000 nodes, or breaks a rule.
    """
    check(graph, MAX_NODES, MAX_OPERANDS, "a table")
    names = _names(graph, trace)
    head = ["node", "from"] + (["value", "gradient", "sent back"] if trace is not None else ["shape"])
    rows = [_row(graph, trace, names, index) for index in range(len(graph.nodes))]
    lines = [title, ""] if title else []
    lines += _table([head, *rows])
    if trace is not None and trace.HasField("non_finite"):
        lines += ["", _alarm(trace)]
    return "\n".join(lines) + "\n"


def _names(graph: graph_pb2.Graph, trace: pb.TraceGraphResponse | None) -> list[str]:
    if trace is not None:
        return [node.name for node in trace.nodes]
    return [node.name or f"{node.WhichOneof('kind')}_{index}" for index, node in enumerate(graph.nodes)]


def _row(graph: graph_pb2.Graph, trace: pb.TraceGraphResponse | None, names: Sequence[str], index: int) -> list[str]:
    node = graph.nodes[index]
    kind = node.WhichOneof("kind") or "constant"
    sources = [edge.node for edge in trace.nodes[index].operands] if trace is not None else operands_of(node)
    row = [
        _clipped(names[index]) + "  <- loss" * (index == graph.loss),
        f"{kind}({_listed(_clipped(names[operand]) for operand in sources)})" if sources else kind,
    ]
    if trace is None:
        shape = tuple(getattr(getattr(node, kind), "shape", ()))
        return [*row, str(shape) if kind in ("parameter", "input") else ""]
    traced = trace.nodes[index]
    gradient = _text(traced.gradient) if traced.HasField("gradient") and kind != "constant" else ""
    sent = _listed(_text(edge.gradient) if edge.HasField("gradient") else "none" for edge in traced.operands)
    return [*row, _text(traced.value), gradient, sent]


def _listed(texts: Iterable[str]) -> str:
    listed = list(texts)
    return ", ".join(listed[:_OPERANDS] + ["…"] * (len(listed) > _OPERANDS))


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in ruled]


def _alarm(trace: pb.TraceGraphResponse) -> str:
    report = trace.non_finite
    what = "value" if report.phase == pb.NonFinite.PHASE_VALUE else "gradient"
    where = f" at {list(report.position)}" if report.position else ""
    operands = ", ".join(f"{operand.name} = {operand.value:g}" for operand in report.operands)
    return f"The first {what} that is not finite is {report.value:g}{where}, at {report.name}" + (
        f", from {operands}." if operands else "."
    )


def _text(tensor: tensor_pb2.Tensor) -> str:
    array = decode_tensor(tensor)
    if array.size <= _ALL_ELEMENTS:
        return _elements(array)
    norm = float((array.astype("float64") ** 2).sum() ** 0.5)
    return f"{array.shape} norm {norm:.4g}"


def _elements(array: Array) -> str:
    if array.ndim == 0:
        return f"{array.item() + 0.0:.6g}"
    return f"[{', '.join(map(_elements, array))}]"


def _clipped(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
