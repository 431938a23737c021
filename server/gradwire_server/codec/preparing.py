"""What it takes to read and prepare a graph, known from its counts before any of it is read."""

from __future__ import annotations

from typing import NamedTuple

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.codec.counting import count

NODE_BYTES, OPERAND_BYTES, PACKED_BYTES, NUMBER_BYTES, MESSAGE_BYTES = 2000, 1400, 100, 30, 4
"""Memory at the peak, of a node, an operand, a packed operation, any number in a list, and a byte of the message, as of
constants and names. Scalars take a tenth of it; but which tensors are scalars the counts do not tell."""

SECONDS, PACKED_SECONDS, MESSAGE_SECONDS = 1e-5, 2e-7, 2e-8
"""Rough time for a node or operand, a packed operation, and a byte of the message."""


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
