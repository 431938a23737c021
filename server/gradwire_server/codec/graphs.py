"""Graphs of the wire -> graphs of the engine. It knows sources, and of operations only that they have operands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from gradwire.v1 import graph_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.codec.scalars import COLUMNS, UnknownOpError, decode_columns
from gradwire_server.codec.tensors import FLOAT64, TensorError, decode_tensor
from gradwire_server.engine import (
    OPS,
    Checkpoint,
    Constant,
    Graph,
    Input,
    Limits,
    Node,
    Nodes,
    Operation,
    Parameter,
    Ties,
    checked,
    unhurried,
)
from gradwire_server.errors import Findings, Reason, shown
from gradwire_server.limits import graph_too_large
from gradwire_server.version import VERSION

Attributes = Mapping[str, Any]

_TIES = {
    pb.TIE_RULE_UNSPECIFIED: Ties.ZERO,
    pb.TIE_RULE_ZERO: Ties.ZERO,
    pb.TIE_RULE_SPLIT: Ties.SPLIT,
}

LISTED_BYTES = 1 << 16
"""Unknown fields, at most, whose numbers a message lists: there is no looking at the first of them alone."""


class _NodeError(Exception):
    """What is wrong with a node, as the end of a sentence that begins with its name, and the wrong field."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def decode_graph(message: pb.Graph, limits: Limits, checkpoint: Checkpoint = unhurried) -> Graph:
    """The graph for the engine to check; constants in float64. ``checkpoint`` is called now and then and may raise.

    Raises:
        Refusal: INVALID_GRAPH with every node that cannot be read, or LIMIT_EXCEEDED. Paths start at the graph.
            Whatever ``checkpoint`` raises.
    """
    count = len(message.nodes)
    if count > limits.max_nodes:
        raise graph_too_large("nodes", count, limits.max_nodes, "max_nodes")
    findings = Findings()
    ties = _TIES.get(message.ties)
    if ties is None:
        allowed = ", ".join(pb.TieRule.Name(number) for number in _TIES)
        findings.add(
            Reason.INVALID_GRAPH, f"the graph has the unknown tie rule {message.ties}; allowed are {allowed}", "ties"
        )
    ops: list[str] = []
    names: list[str] = []
    operands: list[int] = []
    ends: list[int] = []
    others: dict[int, Node] = {}
    arguments = 0
    for index, node in enumerate(checked(message.nodes, checkpoint)):
        kind = node.WhichOneof("kind")
        attributes = _ATTRIBUTES.get(kind)
        names.append(node.name)
        ops.append(kind if attributes is not None else "")
        try:
            if attributes is None:
                others[index] = _SOURCES[kind](node, limits)
            else:
                box = getattr(node, kind)
                own = box.operands[:]
                operands += own
                if kind == "scalars":
                    count += len(box.ops)
                    arguments += len(box.arguments)
                    _check_columns(box, index, count, limits)
                if len(operands) + arguments > limits.max_edges:
                    raise graph_too_large(
                        "operands", len(operands) + arguments, limits.max_edges, "max_edges", "at least "
                    )
                if attributes is not _no_attributes:
                    read = attributes(box, limits, checkpoint)
                    others[index] = Operation(name=node.name, op=kind, operands=tuple(own), attributes=read)
        except _NodeError as error:
            findings.add(
                Reason.INVALID_GRAPH, f"node {_who(node, index, kind)} {error}", f"nodes[{index}]{error.field}"
            )
        ends.append(len(operands))
    findings.check()
    return Graph(nodes=Nodes(ops, names, operands, ends, others), loss=message.loss, ties=ties or Ties.ZERO)


def _check_columns(box: pb.Scalars, index: int, count: int, limits: Limits) -> None:
    """Refuse more packed operations than a graph may have nodes, and columns that no such graph needs."""
    if count > limits.max_nodes:
        raise graph_too_large("nodes and packed operations", count, limits.max_nodes, "max_nodes", "at least ")
    for name in COLUMNS:
        length = len(getattr(box, name))
        if length > limits.max_edges:
            path = f"nodes[{index}].scalars.{name}"
            raise graph_too_large(f"numbers in {path}", length, limits.max_edges, "max_edges", path=path)


def _who(node: pb.Node, index: int, kind: str | None) -> str:
    place = f"nodes[{index}]" + (f", {kind}" if kind else "")
    return f"{shown(node.name)} ({place})" if node.name else f"({place})"


# Sources.


def _parameter(node: pb.Node, limits: Limits) -> Node:
    return Parameter(name=node.name, shape=_shape(node.parameter.shape, "parameter", limits))


def _input(node: pb.Node, limits: Limits) -> Node:
    message = node.input
    if message.dtype not in (tensor_pb2.DTYPE_UNSPECIFIED, tensor_pb2.DTYPE_INT64):
        raise _NodeError(
            f"has dtype {_dtype_name(message.dtype)}; an input is DTYPE_INT64 (row indices) or has none, because "
            "the request decides the float dtype",
            ".input.dtype",
        )
    return Input(
        name=node.name,
        shape=_shape(message.shape, "input", limits),
        per_example=message.per_example,
        integer=message.dtype == tensor_pb2.DTYPE_INT64,
    )


def _constant(node: pb.Node, limits: Limits) -> Node:
    if not node.constant.HasField("value"):
        raise _NodeError("has no value; a constant needs a tensor", ".constant.value")
    try:
        value = decode_tensor(node.constant.value, None, limits.max_rank)
    except TensorError as error:
        raise _NodeError(str(error), f".constant.value.{error.field}") from None
    return Constant(name=node.name, value=value.astype(FLOAT64, copy=False) if value.dtype.kind == "f" else value)


def _unknown(node: pb.Node, limits: Limits) -> Node:
    unknown = node.ByteSize() - pb.Node(name=node.name).ByteSize()
    found = f"has a kind that this server does not know ({unknown} bytes)" if unknown else "has no kind set"
    if 0 < unknown <= LISTED_BYTES:
        fields = UnknownFieldSet(node)
        numbers = sorted({fields[i].field_number for i in range(len(fields))})
        listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        found = f"has a kind that this server does not know (field {listed})"
    sources = ", ".join(filter(None, _SOURCES))
    raise _NodeError(f"{found}; server {VERSION} knows {sources} and the ops {', '.join(OPS)}", "")


def _shape(axes: Collection[int], kind: str, limits: Limits) -> tuple[int, ...]:
    return _axes(axes, f".{kind}.shape", limits)


def _axes(axes: Collection[int], field: str, limits: Limits) -> tuple[int, ...]:
    if len(axes) > limits.max_rank:
        raise _NodeError(f"has {len(axes)} axes; at most {limits.max_rank} are allowed", field)
    return tuple(axes)


def _dtype_name(number: int) -> str:
    known = tensor_pb2.Dtype.DESCRIPTOR.values_by_number.get(number)
    return known.name if known else str(number)


_SOURCES: dict[str | None, Callable[[pb.Node, Limits], Node]] = {
    "parameter": _parameter,
    "input": _input,
    "constant": _constant,
    None: _unknown,
}


# Operations: the fields of a box are its operands and its attributes, under their own names.


def _reader(field: FieldDescriptor, path: str) -> Callable[[Message, Limits], Any]:
    name = field.name
    if field.is_repeated:
        # Whatever an op is told of in a list is of axes.
        return lambda box, limits: _axes(getattr(box, name), path, limits)
    if field.has_presence:
        return lambda box, _: getattr(box, name) if box.HasField(name) else None
    return lambda box, _: getattr(box, name)


def _no_attributes(*_: object) -> Attributes:
    return {}


def _attributes(kind: str, box: Descriptor) -> Callable[[Message, Limits, Checkpoint], Attributes]:
    readers = [
        (field.name, _reader(field, f".{kind}.{field.name}")) for field in box.fields if field.name != "operands"
    ]
    if not readers:
        return _no_attributes
    return lambda message, limits, _: {name: read(message, limits) for name, read in readers}


def _scalars(box: pb.Scalars, _: Limits, checkpoint: Checkpoint) -> Attributes:
    try:
        return decode_columns(box, checkpoint)
    except UnknownOpError as error:
        raise _NodeError(str(error), f".scalars.ops[{error.index}]") from None


_ATTRIBUTES: dict[str | None, Callable[[Any, Limits, Checkpoint], Attributes]] = {
    field.name: _attributes(field.name, getattr(pb, field.message_type.name).DESCRIPTOR)
    for field in pb.Node.DESCRIPTOR.oneofs_by_name["kind"].fields
    if field.name not in _SOURCES and field.message_type is not None
}
_ATTRIBUTES["scalars"] = _scalars
