"""The identity of a graph: SHA-256 of a canonical form, the same on every replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from gradwire_server.engine.graph import Array, Constant, Graph, Input, Node, Operation, Parameter

FORM = "gradwire graph 1"
"""Names the form itself, so that a change of it changes every id."""

TOGETHER = 1 << 12
"""Nodes that are written and digested at a time."""


def graph_id(graph: Graph, attributes: Sequence[Mapping[str, Any]]) -> str:
    """64 hexadecimal digits; ``attributes`` are those of each node in normal form."""
    digest = sha256(repr((FORM, graph.loss, graph.ties.value, len(graph.nodes))).encode())
    for first in range(0, len(graph.nodes), TOGETHER):
        part = slice(first, first + TOGETHER)
        records = [_record(node, own) for node, own in zip(graph.nodes[part], attributes[part], strict=True)]
        digest.update("".join(records).encode())
    return digest.hexdigest()


def _record(node: Node, attributes: Mapping[str, Any]) -> str:
    match node:
        case Operation():
            listed = sorted(_plain(attributes).items()) if attributes else []
            return f"({node.op!r}, {node.name!r}, {node.operands!r}, {listed!r})"
        case Parameter():
            return repr(("parameter", node.name, node.shape))
        case Input():
            return repr(("input", node.name, node.shape, node.per_example, node.integer))
        case Constant():
            # In float64 every float constant keeps its value, so the dtype it came in does not matter.
            value = node.value if node.integer else node.value.astype(np.float64)
            return repr(("constant", node.name, *_content(value)))


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
