"""Graphs of the wire -> graphs of the engine. It knows sources, and of operations only that they have operands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from gradwire.v1 import graph_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.codec.expansion import expand
from gradwire_server.codec.scalars import COLUMNS, SCALARS, UnknownOpError, decode_columns
from gradwire_server.codec.tensors import FLOAT64, TensorError, decode_tensor
from gradwire_server.codec.wire import BOX, NAME, OPERANDS, SECOND, find_nodes, read_varints
from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.graph.graph import Attributes, Content, Graph, Input, Parameter, Ties
from gradwire_server.engine.graph.inference import infer
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.errors import Findings, Reason, shown
from gradwire_server.limits import Limits, graph_too_large
from gradwire_server.version import VERSION

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

    Nodes are read where protobuf writes them, since a look at one from Python takes as long as all else.

    Raises:
        Refusal: INVALID_GRAPH with nodes that cannot be read, or LIMIT_EXCEEDED. If there are packed nodes, with
            everything that is wrong with the graph. Paths start at the graph. Whatever ``checkpoint`` raises.
    """
    count = len(message.nodes)
    if count > limits.max_nodes:
        raise graph_too_large("nodes", count, limits.max_nodes, "max_nodes")
    raw = message.SerializeToString()
    checkpoint()
    reader = _Reader(message, raw, limits, checkpoint)
    reader.check_limits()
    findings = Findings()
    ties = _TIES.get(message.ties)
    if ties is None:
        allowed = ", ".join(pb.TieRule.Name(number) for number in _TIES)
        findings.add(
            Reason.INVALID_GRAPH, f"the graph has the unknown tie rule {message.ties}; allowed are {allowed}", "ties"
        )
    reader.read(findings)
    findings.check()
    graph = reader.graph(ties or Ties.ZERO)
    if not reader.packed:
        return graph
    return expand(graph, infer(graph, limits, checkpoint, {Opcode.STACK: SCALARS}), checkpoint)


class _Reader:
    def __init__(self, message: pb.Graph, raw: bytes, limits: Limits, checkpoint: Checkpoint) -> None:
        self._message = message
        self._raw = raw
        self._limits = limits
        self._checkpoint = checkpoint
        count, data = len(message.nodes), np.frombuffer(raw, np.uint8)
        self._kinds, self._spans = np.zeros(count, np.int64), np.zeros((count, 4, 2), np.int64)
        find_nodes(data, _OPERATION, self._kinds, self._spans)
        checkpoint()
        self._starts = np.zeros(count + 1, np.int64)
        self._operands = read_varints(data, self._spans[:, OPERANDS], self._starts[1:])
        self.packed: list[int] = np.flatnonzero(self._kinds == _SCALARS).tolist()
        """Nodes that hold operations in columns."""
        self._numbers = np.full(count, np.nan)
        self._raised = (self._kinds == _POWER) & (self._spans[:, SECOND, 1] > 0)
        """[nodes], whether each is a power with its exponent set."""
        powers = np.flatnonzero(self._raised)
        places = self._spans[powers, SECOND, 0][:, np.newaxis] + np.arange(FLOAT64.itemsize)
        self._numbers[powers] = data[places].view(FLOAT64)[:, 0]
        self._contents: dict[int, Content] = {}
        self._attributes: dict[int, Attributes] = {}

    def check_limits(self) -> None:
        """Refuse more operations and operands than a graph may have, packed ones included, and columns that long."""
        limits, nodes, edges = self._limits, len(self._kinds), len(self._operands)
        for index in checked(self.packed, self._checkpoint):
            box = self._message.nodes[index].scalars
            nodes += len(box.ops)
            edges += len(box.arguments)
            if nodes > limits.max_nodes:
                raise graph_too_large("nodes and packed operations", nodes, limits.max_nodes, "max_nodes", "at least ")
            for name in COLUMNS:
                length = len(getattr(box, name))
                if length > limits.max_edges:
                    path = f"nodes[{index}].scalars.{name}"
                    raise graph_too_large(f"numbers in {path}", length, limits.max_edges, "max_edges", path=path)
        if edges > limits.max_edges:
            raise graph_too_large("operands", edges, limits.max_edges, "max_edges")

    def read(self, findings: Findings) -> None:
        """Read what nodes have beside names, operands and exponents."""
        # A take whose message ends with its operands is along the first axis.
        first = (self._kinds == _TAKE) & (self._spans[:, OPERANDS, 1] == self._spans[:, BOX, 1])
        read = _PLAIN[self._kinds] | self._raised | first
        for index in checked(np.flatnonzero(~read).tolist(), self._checkpoint):
            if findings.are_enough():
                break
            node, kind = self._message.nodes[index], _KINDS.get(int(self._kinds[index]))
            try:
                if kind is None:
                    raise _unknown(node)
                if kind in _SOURCES:
                    self._source(index, _SOURCES[kind](node, self._limits))
                elif kind == "scalars":
                    self._attributes[index] = self._columns(index)
                else:
                    own = {name: _attribute(node, kind, name, self._limits) for name in _ATTRIBUTES[kind]}
                    self._attributes[index] = own
            except _NodeError as error:
                place = f"nodes[{index}]"
                who = f"({place}, {kind})" if kind else f"({place})"
                if node.name:
                    who = f"{shown(node.name)} {who}"
                findings.add(Reason.INVALID_GRAPH, f"node {who} {error}", f"{place}{error.field}")

    def _source(self, index: int, content: Content) -> None:
        if isinstance(content, np.ndarray) and content.shape == () and content.dtype == FLOAT64:
            self._numbers[index] = content
        else:
            self._contents[index] = content

    def _columns(self, index: int) -> Attributes:
        start, stop = self._spans[index, BOX]
        try:
            return decode_columns(np.frombuffer(self._raw, np.uint8, stop - start, start), self._checkpoint)
        except UnknownOpError as error:
            raise _NodeError(str(error), f".scalars.ops[{error.index}]") from None

    def graph(self, ties: Ties) -> Graph:
        """What was read, as it was sent; packed nodes have the opcode STACK, and their columns as attributes."""
        named = np.flatnonzero(self._spans[:, NAME, 1])
        spans = checked(list(zip(named.tolist(), *self._spans[named, NAME].T.tolist(), strict=True)), self._checkpoint)
        return Graph(
            opcodes=_OPCODES[self._kinds],
            starts=self._starts,
            operands=self._operands.astype(np.uint32).view(np.int32),
            numbers=self._numbers,
            names={index: self._raw[start:stop].decode() for index, start, stop in spans},
            contents=self._contents,
            attributes=self._attributes,
            loss=self._message.loss,
            ties=ties,
        )


# Sources.


def _parameter(node: pb.Node, limits: Limits) -> Content:
    return Parameter(name=node.name, shape=_axes(node.parameter.shape, ".parameter.shape", limits))


def _input(node: pb.Node, limits: Limits) -> Content:
    message = node.input
    if message.dtype not in (tensor_pb2.DTYPE_UNSPECIFIED, tensor_pb2.DTYPE_INT64):
        known = tensor_pb2.Dtype.DESCRIPTOR.values_by_number.get(message.dtype)
        raise _NodeError(
            f"has dtype {known.name if known else message.dtype}; an input is DTYPE_INT64 (row indices) or has none, "
            "because the request decides the float dtype",
            ".input.dtype",
        )
    return Input(
        name=node.name,
        shape=_axes(message.shape, ".input.shape", limits),
        per_example=message.per_example,
        integer=message.dtype == tensor_pb2.DTYPE_INT64,
    )


def _constant(node: pb.Node, limits: Limits) -> Content:
    if not node.constant.HasField("value"):
        raise _NodeError("has no value; a constant needs a tensor", ".constant.value")
    try:
        value = decode_tensor(node.constant.value, None, limits.max_rank)
    except TensorError as error:
        raise _NodeError(str(error), f".constant.value.{error.field}") from None
    return value.astype(FLOAT64, copy=False) if value.dtype.kind == "f" else value


def _unknown(node: pb.Node) -> _NodeError:
    unknown = node.ByteSize() - pb.Node(name=node.name).ByteSize()
    found = f"has a kind that this server does not know ({unknown} bytes)" if unknown else "has no kind set"
    if 0 < unknown <= LISTED_BYTES:
        fields = UnknownFieldSet(node)
        numbers = sorted({fields[i].field_number for i in range(len(fields))})
        listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        found = f"has a kind that this server does not know (field {listed})"
    ops = ", ".join(kind for kind in _KINDS.values() if kind not in _SOURCES)
    return _NodeError(f"{found}; server {VERSION} knows {', '.join(_SOURCES)} and the ops {ops}", "")


def _axes(axes: Collection[int], field: str, limits: Limits) -> tuple[int, ...]:
    if len(axes) > limits.max_rank:
        raise _NodeError(f"has {len(axes)} axes; at most {limits.max_rank} are allowed", field)
    return tuple(axes)


_SOURCES: Mapping[str, Callable[[pb.Node, Limits], Content]] = {
    "parameter": _parameter,
    "input": _input,
    "constant": _constant,
}


# Operations: the fields of a box are its operands and its attributes, under their own names.


def _attribute(node: pb.Node, kind: str, name: str, limits: Limits) -> object:
    value = getattr(getattr(node, kind), name)
    if isinstance(value, int):
        return value
    # An exponent is read here only if it is not set; every list among attributes is of axes.
    return None if name == "exponent" else _axes(value, f".{kind}.{name}", limits)


_KINDS: Mapping[int, str] = {field.number: field.name for field in pb.Node.DESCRIPTOR.oneofs_by_name["kind"].fields}
_BOXES: Mapping[str, Any] = {kind: pb.Node.DESCRIPTOR.fields_by_name[kind].message_type for kind in _KINDS.values()}
_ATTRIBUTES = {kind: [field.name for field in box.fields if field.name != "operands"] for kind, box in _BOXES.items()}
_SCALARS, _POWER, _TAKE = (getattr(pb.Node, f"{kind}_FIELD_NUMBER") for kind in ("SCALARS", "POWER", "TAKE"))

_OPERATION = np.zeros(max(_KINDS) + 1, np.bool_)
"""By field number of a kind: whether it is an operation; so are the others."""
_PLAIN = np.zeros_like(_OPERATION)
"""Whether it has no attributes."""
_OPCODES = np.zeros(len(_OPERATION), np.int8)
for _number, _kind in _KINDS.items():
    _OPERATION[_number] = _kind not in _SOURCES
    _PLAIN[_number] = _OPERATION[_number] and not _ATTRIBUTES[_kind]
    _OPCODES[_number] = Opcode.STACK if _kind == "scalars" else Opcode[_kind.upper()]
