"""Sums in a tree whose shape is that of a number of parts alone.

Its leaves are the parts in their order, its levels pair neighbours, and whoever has none goes up by itself. So a block
of 2^k parts, the first of which is a multiple of 2^k, is a part of the tree with a sum of its own: however parts are
shared out in such blocks, every addition is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

LARGEST = 2
"""Blocks that each taker has of the largest size, at least, so that nobody is held up long by one who is slow."""


def summed(parts: Iterable[T], add: Callable[[T, T], T], leaves: Callable[[T], int] = lambda _: 1) -> T:
    """The sum of parts, of which there is at least one; as many are held at a time as the tree has levels.

    Args:
        parts: In their order.
        add: The sum of two that are neighbours.
        leaves: How many leaves a part is the sum of; parts are those of ``blocks`` where not each is one.
    """
    held: list[tuple[int, T]] = []
    for part in parts:
        count, total = leaves(part), part
        while held and held[-1][0] == count:
            total = add(held.pop()[1], total)
            count *= 2
        held.append((count, total))
    _, total = held.pop()
    while held:
        total = add(held.pop()[1], total)
    return total


def blocks(parts: Sequence[T], takers: int) -> list[Sequence[T]]:
    """The parts in blocks of the tree, which get smaller towards the end, so that takers of them end together.

    Each taker could have ``LARGEST`` of the largest, and one of each that is begun, out of what is left then.
    """
    size = 1
    while 2 * size * LARGEST * takers <= len(parts):
        size *= 2
    found: list[Sequence[T]] = []
    start = 0
    while start < len(parts):
        while size > 1 and size * takers > len(parts) - start:
            size //= 2
        found.append(parts[start : start + size])
        start += size
    return found
