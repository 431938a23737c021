"""Counts what a serialized message holds, before memory is taken for any of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_server.codec.wire import BYTES, END_GROUP, FIXED64, GROUP, VARINT
from gradwire_server.engine.compiled import compiled

LEAF, PACKED = -1, -2
"""What a field may be beside the position of a message type: nothing to look into, or packed varints."""

FIXED32 = 5
"""The type of the wire that is left."""

LONGEST = 10
"""Bytes of a varint."""


@compiled
def count_fields(raw: Any, fields: Any) -> Any:
    """Count the fields of a message and of those in it; of packed varints each element.

    What is malformed ends it: a parser comes no further.

    Args:
        raw: The message, as bytes.
        fields: For each message type and field number the type of the field, LEAF, or PACKED. The first type is
            the message's own; none is within itself.

    Returns:
        For each type and number how many there are, as far as ``fields`` goes; how many fields altogether, known or
        not, those of groups included; and how many elements of packed varints.
    """
    counts = np.zeros(fields.shape, np.int64)
    total, packed = 0, 0
    # Of the message and those around it: the type, and where it ends.
    types, ends = np.empty(len(fields) + 1, np.int64), np.empty(len(fields) + 1, np.int64)
    depth, groups, at = 0, 0, 0
    types[0], ends[0] = 0, len(raw)
    while True:
        while at == ends[depth]:
            if depth == 0 or groups > 0:
                return counts, total, packed
            depth -= 1
        end = ends[depth]
        at, tag = _varint(raw, at, end)
        number, wire = tag >> 3, tag & 7
        if at < 0 or number == 0:
            break
        total += wire != END_GROUP
        known = groups == 0 and number < fields.shape[1]
        child = np.int64(fields[types[depth], number]) if known else np.int64(LEAF)
        elements = 1
        if wire == VARINT:
            at, _ = _varint(raw, at, end)
        elif wire == FIXED64:
            at += 8
        elif wire == FIXED32:
            at += 4
        elif wire == BYTES:
            at, length = _varint(raw, at, end)
            if at < 0 or length > end - at:
                break
            if child == PACKED:
                elements = 0
                for i in range(at, at + length):
                    elements += raw[i] < 128
                packed += elements
            if child < 0:
                at += length
        elif wire == GROUP:
            groups += 1
        elif wire == END_GROUP and groups > 0:
            groups -= 1
        else:
            break
        if at < 0 or at > end:
            break
        if known:
            counts[types[depth], number] += elements
        if wire == BYTES and child >= 0:
            depth += 1
            types[depth], ends[depth] = child, at + length
    return counts, total, packed


@compiled
def _varint(raw: Any, at: int, end: int) -> tuple[int, Any]:
    """Where the varint ends, or -1 if it does not; and its lowest 63 bits."""
    value = np.int64(0)
    for i in range(min(LONGEST, end - at)):
        byte = np.int64(raw[at + i])
        if i < LONGEST - 1:
            value |= (byte & 127) << (7 * i)
        if byte < 128:
            return at + i + 1, value
    return -1, value
