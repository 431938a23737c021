"""What the engine refuses to take on, whoever asks.

It is apart from the engine, so that a command that only talks to a server does not import numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradwire_server.errors import Reason, Refusal, refuse

MAX_RANK = 32
"""Axes of a tensor for one example; NumPy takes twice as many, but operations and blocks of examples add some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on graphs and on the memory of a computation. None of them is ever unlimited."""

    max_nodes: int = 1_000_000
    """Nodes of a graph, and operations packed in them."""
    max_edges: int = 4_000_000
    """Operands of all nodes of a graph together, and arguments of packed operations."""
    max_rank: int = MAX_RANK
    """Axes of a tensor."""
    max_name_length: int = 256
    """Characters of a node's name."""
    max_examples: int = 1 << 31
    """Examples of one request; empty ones take no memory, but time."""
    max_tensor_bytes: int = 1 << 30
    """Bytes of one node's value for one example, in float64."""
    max_memory_bytes: int = 4 << 30
    """Bytes that one computation may take: values, gradients and results together."""


def graph_too_large(what: str, found: int, limit: int, setting: str, about: str = "", path: str = "nodes") -> Refusal:
    """The refusal of a graph that has too many of something."""
    return refuse(
        Reason.LIMIT_EXCEEDED,
        f"the graph has {about}{found} {what}; this server takes at most {limit} ({setting})",
        path,
        found=found,
        limit=limit,
        setting=setting,
    )
