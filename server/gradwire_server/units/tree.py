"""Sums in a tree whose shape is that of a number of parts alone.

Its leaves are the parts in their order, its levels pair neighbours, and whoever has none goes up by itself. So a block
of 2^k parts, the first of which is a multiple of 2^k, is a part of the tree with a sum of its own: however parts are
shared out in such blocks, every addition is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def summed(parts: Iterable[T], add: Callable[[T, T], T]) -> T:
    """The sum of parts, of which there is at least one; as many are held at a time as the tree has levels."""
    held: list[tuple[int, T]] = []
    for part in parts:
        level, total = 0, part
        while held and held[-1][0] == level:
            total = add(held.pop()[1], total)
            level += 1
        held.append((level, total))
    _, total = held.pop()
    while held:
        total = add(held.pop()[1], total)
    return total


def blocks(parts: Sequence[T], least: int) -> list[Sequence[T]]:
    """The parts in blocks of the tree: the largest such that there are at least so many, or as many as parts."""
    size = 1
    while size < len(parts) and -(-len(parts) // (2 * size)) >= least:
        size *= 2
    return [parts[start : start + size] for start in range(0, len(parts), size)]
