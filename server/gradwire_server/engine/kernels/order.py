"""Passes over the operations of a swarm of scalars, one after another, as no operation on arrays can make them."""

from __future__ import annotations

from typing import Any

from numba import njit

from gradwire_server.engine.kernels.caching import kept


def _compiled(kernel: Any) -> Any:
    return kept(njit(nogil=True, error_model="numpy")(kernel))


@_compiled
def mark(starts: Any, arguments: Any, first: int, marked: Any) -> None:
    """Mark every position that a marked one depends on.

    Args:
        starts: Where the arguments of each operation begin among all, and where they end.
        arguments: Positions.
        first: Position of the first operation.
        marked: For each position.
    """
    for k in range(len(starts) - 2, -1, -1):
        if marked[first + k]:
            for i in range(starts[k], starts[k + 1]):
                marked[arguments[i]] = True


@_compiled
def count_levels(starts: Any, arguments: Any, first: int, levels: Any) -> None:
    """Set the level of each position: the length of the longest path that leads to it; ``levels`` come as zeros."""
    for k in range(len(starts) - 1):
        level = 0
        for i in range(starts[k], starts[k + 1]):
            level = max(level, levels[arguments[i]])
        levels[first + k] = level + 1
