"""Where things are in the bytes of a graph. The bytes are protobuf's own writing, so they are well-formed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.compiled import compiled

Bytes = NDArray[np.uint8]

VARINT, FIXED64, BYTES, GROUP, END_GROUP = range(5)
"""Types of the wire; the one that is left has 4 bytes."""

NAME, BOX, OPERANDS, SECOND = range(4)
"""Columns of a table of spans: a node's name, the message of its kind, the operands in it, the second field in it."""

LAST = 63
"""Largest shift of a 64-bit number."""


@compiled
def find_nodes(raw: Bytes, operation: NDArray[np.bool_], kinds: NDArray[np.int64], spans: NDArray[np.int64]) -> None:
    """Find the parts of each node of a graph.

    Args:
        raw: The graph.
        operation: [kinds], whether a node whose kind has this field number is an operation.
        kinds: [nodes], zeros; takes the field number of each node's kind.
        spans: [nodes, 4, 2], zeros; takes where each part begins and ends, by the columns named above.
    """
    at, k = 0, 0
    while at < len(raw) and k < len(kinds):
        number, wire, inner, at = _field(raw, at)
        if number != 1 or wire != BYTES:
            continue
        while inner < at:
            number, wire, start, inner = _field(raw, inner)
            if wire == BYTES and 0 < number < len(operation):
                column = NAME if number == 1 else BOX
                spans[k, column, 0], spans[k, column, 1] = start, inner
                if column == BOX:
                    kinds[k] = number
        if operation[kinds[k]]:
            inner = spans[k, BOX, 0]
            while inner < spans[k, BOX, 1]:
                number, wire, start, inner = _field(raw, inner)
                if (number == 1 and wire == BYTES) or (number == 2 and wire == FIXED64):
                    column = OPERANDS if number == 1 else SECOND
                    spans[k, column, 0], spans[k, column, 1] = start, inner
        k += 1


@compiled
def find_fields(raw: Bytes, spans: NDArray[np.int64]) -> None:
    """Find the fields of a message that hold bytes; ``spans``: [numbers, 2], zeros, by field number."""
    at = 0
    while at < len(raw):
        number, wire, start, at = _field(raw, at)
        if wire == BYTES and 0 < number < len(spans):
            spans[number, 0], spans[number, 1] = start, at


@compiled
def read_varints(raw: Bytes, spans: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers in some spans of packed varints; ``ends``: [spans], takes where those of each end in the result."""
    total = 0
    for k in range(len(spans)):
        for i in range(spans[k, 0], spans[k, 1]):
            total += raw[i] < 128
        ends[k] = total
    numbers = np.empty(total, np.int64)
    filled = 0
    for k in range(len(spans)):
        at = spans[k, 0]
        while at < spans[k, 1] and filled < total:
            numbers[filled], at = _varint(raw, at)
            filled += 1
    return numbers


@compiled
def _field(raw: Bytes, at: int) -> tuple[int, int, int, int]:
    """Number and type of a field, where its content begins, and where it ends."""
    tag, at = _varint(raw, at)
    wire = tag & 7
    if wire != GROUP:
        start, stop = _content(raw, at, wire)
        return tag >> 3, wire, start, stop
    stop, depth = at, 1
    while depth > 0 and stop < len(raw):
        inner, stop = _varint(raw, stop)
        if inner & 7 == GROUP:
            depth += 1
        elif inner & 7 == END_GROUP:
            depth -= 1
        else:
            _, stop = _content(raw, stop, inner & 7)
    return tag >> 3, wire, at, stop


@compiled
def _content(raw: Bytes, at: int, wire: int) -> tuple[int, int]:
    """Where the content of a field begins that is no group, and where it ends."""
    if wire == VARINT:
        _, stop = _varint(raw, at)
    elif wire == BYTES:
        length, at = _varint(raw, at)
        stop = at + length
    else:
        stop = at + (8 if wire == FIXED64 else 4)
    return at, stop if at <= stop <= len(raw) else len(raw)


@compiled
def _varint(raw: Bytes, at: int) -> tuple[Any, int]:
    """A number, and where it ends."""
    number, shift = np.int64(0), 0
    while at < len(raw):
        byte = np.int64(raw[at])
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > LAST:
            break
    return number, at
