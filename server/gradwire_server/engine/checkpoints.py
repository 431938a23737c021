"""Where long work stops when nobody waits for it any longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import length_hint
from typing import TypeVar

T = TypeVar("T")

Checkpoint = Callable[[], None]
"""Called every now and then during long work; stops it by raising."""

BETWEEN_CHECKPOINTS = 512
"""Items of long work from one checkpoint to the next."""


def unhurried() -> None:
    """Never stops the work: for callers without a deadline."""


def checked(items: Iterable[T], checkpoint: Checkpoint, every: int = BETWEEN_CHECKPOINTS) -> Iterable[T]:
    """The items, with a checkpoint before each run of ``every`` items; none where there are no more than that."""
    few = length_hint(items, every + 1) <= every
    return items if few else _checked(items, checkpoint, every)


def _checked(items: Iterable[T], checkpoint: Checkpoint, every: int) -> Iterator[T]:
    rest = iter(items)
    while some := list(islice(rest, every)):
        checkpoint()
        yield from some
