"""The identity of a graph: SHA-256 of a canonical form, the same on every replica."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.graph import Array, Constant, Input, Node, Operation, Parameter, Ties
from gradwire_server.engine.nodes import Nodes

FORM = "gradwire graph 1"
"""Names the form itself, so that a change of it changes every id."""

TOGETHER = 1 << 12
"""Nodes that are written and digested at a time."""


def graph_id(
    nodes: Nodes, loss: int, ties: Ties, attributes: Mapping[int, Mapping[str, Any]], checkpoint: Checkpoint
) -> str:
    """64 hexadecimal digits; ``attributes`` are those in normal form, of the nodes that have any.

    Raises what ``checkpoint`` raises.
    """
    digest = sha256(repr((FORM, loss, ties.value, len(nodes))).encode())
    start = 0
    records: list[str] = []
    for index, (op, name, stop) in enumerate(zip(nodes.ops, nodes.names, nodes.ends, strict=True)):
        if op:
            own = attributes.get(index)
            listed = sorted(_plain(own).items()) if own else "[]"
            records.append(f"({op!r}, {name!r}, {tuple(nodes.operands[start:stop])!r}, {listed})")
            start = stop
        else:
            records.append(_source(nodes.others[index]))
        if len(records) == TOGETHER:
            checkpoint()
            digest.update("".join(records).encode())
            records.clear()
    digest.update("".join(records).encode())
    return digest.hexdigest()


def _source(node: Node) -> str:
    match node:
        case Parameter():
            record: tuple[object, ...] = ("parameter", node.name, node.shape)
        case Input():
            record = ("input", node.name, node.shape, node.per_example, node.integer)
        case Constant():
            # In float64 every float constant keeps its value, so the dtype it came in does not matter.
            value = node.value if node.integer else node.value.astype(np.float64)
            record = ("constant", node.name, *_content(value))
        case Operation():
            raise AssertionError(node)
    return repr(record)


def _plain(attributes: Mapping[str, Any]) -> dict[str, object]:
    """The attributes with 0.0 for -0.0, which as an attribute means the same, and for each array its content."""
    return {
        name: _content(value) if isinstance(value, np.ndarray) else _unsigned(value)
        for name, value in attributes.items()
    }


def _unsigned(value: object) -> object:
    return 0.0 if isinstance(value, float) and value == 0 else value


def _content(array: Array) -> tuple[object, ...]:
    return array.shape, array.dtype.str, sha256(array.tobytes()).hexdigest()
