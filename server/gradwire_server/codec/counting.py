"""How much a message holds, checked before it is parsed: what takes two bytes in it may take fifty in memory."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import NamedTuple

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.codec.fields import LEAF, PACKED, count_fields
from gradwire_server.errors import Reason, refuse
from gradwire_server.limits import Limits, graph_too_large

FIELDS_PER_NODE = 8
"""Fields of a message for each node that a graph may have, beside one for each operand. A constant takes seven; a
source with its tensor takes more, but has no operands."""

NODE_BYTES, OPERAND_BYTES, PACKED_BYTES, NUMBER_BYTES, MESSAGE_BYTES = 1600, 1200, 50, 80, 3
"""Memory at the peak, of a node, an operand, a packed operation, any number in a list, and a byte of the message, as of
constants and names. Scalars take a twentieth of it; but which tensors are scalars the counts do not tell."""

SECONDS, PACKED_SECONDS, MESSAGE_SECONDS = 2e-5, 5e-7, 2e-8
"""Rough time for a node or operand of tensors, a packed operation, and a byte of the message."""

_VARINTS = {
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_ENUM,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
}


class Counts(NamedTuple):
    """What a message and the messages in it hold."""

    elements: Counter[str]
    """For each name of a field how many there are, of a packed one each element."""
    fields: int
    """All fields, known or not."""
    numbers: int
    """Elements of all packed varints."""


def count(kind: type[Message], raw: bytes) -> Counts:
    """What the message of this kind holds, as far as the bytes are one."""
    schema = _schema(kind.DESCRIPTOR)
    counts, fields, numbers = count_fields(np.frombuffer(raw, np.uint8), schema.fields)
    elements: Counter[str] = Counter()
    for name, place in schema.names:
        elements[name] += int(counts[place])
    return Counts(+elements, int(fields), int(numbers))


def check_counts(kind: type[Message], raw: bytes, limits: Limits) -> None:
    """Go on if the message of this kind holds no more than a request may.

    Raises:
        Refusal: LIMIT_EXCEEDED. Paths start at the request.
    """
    elements, fields, numbers = count(kind, raw)
    if elements["nodes"] > limits.max_nodes:
        raise graph_too_large("nodes", elements["nodes"], limits.max_nodes, "max_nodes", path="graph.nodes")
    if elements["operands"] > limits.max_edges:
        raise graph_too_large("operands", elements["operands"], limits.max_edges, "max_edges", path="graph.nodes")
    check_count(elements["tensors"], "tensors", "tensors", limits)
    check_count(elements["names"], "names of sources", "wrt.names", limits)
    check_count(elements["outputs"], "outputs", "outputs", limits)
    check_count(elements["framed"], "tensors in frames", "framed", limits)
    most = limits.max_edges + FIELDS_PER_NODE * limits.max_nodes
    for found, what in ((fields, "fields"), (numbers, "numbers in packed fields")):
        if found > most:
            raise refuse(
                Reason.LIMIT_EXCEEDED,
                f"the request has {found} {what}, those of all messages in it together; this server takes at most "
                f"{most} (max_edges + {FIELDS_PER_NODE} max_nodes)",
                found=found,
                limit=most,
                setting="max_nodes",
            )


def check_count(found: int, what: str, path: str, limits: Limits) -> None:
    """Go on if a request has no more of something than a graph has nodes.

    Raises:
        Refusal: LIMIT_EXCEEDED.
    """
    if found > limits.max_nodes:
        raise refuse(
            Reason.LIMIT_EXCEEDED,
            f"the request has {found} {what}; a graph has at most {limits.max_nodes} nodes (max_nodes)",
            path,
            found=found,
            limit=limits.max_nodes,
            setting="max_nodes",
        )


class Preparation(NamedTuple):
    """Estimates for a graph."""

    cost: float
    """Seconds."""
    memory: int
    """Bytes at the peak, those that are kept included, and those of the message not."""


def preparation(graph: bytes) -> Preparation:
    """What it takes to read and prepare the graph that this is the message of."""
    elements, _, numbers = count(pb.Graph, graph)
    nodes, operands, packed = elements["nodes"], elements["operands"], elements["ops"]
    return Preparation(
        cost=SECONDS * (nodes + operands) + PACKED_SECONDS * packed + MESSAGE_SECONDS * len(graph),
        memory=NODE_BYTES * nodes
        + OPERAND_BYTES * operands
        + PACKED_BYTES * packed
        + NUMBER_BYTES * numbers
        + MESSAGE_BYTES * len(graph),
    )


class _Schema(NamedTuple):
    fields: NDArray[np.int64]
    """[types, field numbers], for the kernel, see ``count_fields``; the first type is the message's own."""
    names: list[tuple[str, tuple[int, int]]]
    """Names of fields, each with its type and number."""


@cache
def _schema(root: Descriptor) -> _Schema:
    types = [root]
    for message in types:
        # Grows meanwhile.
        types += {field.message_type for field in message.fields if field.message_type is not None} - set(types)
    places = {message.full_name: position for position, message in enumerate(types)}
    numbers = 1 + max((field.number for message in types for field in message.fields), default=0)
    fields, names = np.full((len(types), numbers), LEAF), []
    for position, message in enumerate(types):
        for field in message.fields:
            place = position, field.number
            names.append((field.name, place))
            if field.message_type is not None:
                fields[place] = places[field.message_type.full_name]
            elif field.is_repeated and field.type in _VARINTS:
                fields[place] = PACKED
    return _Schema(fields, names)
