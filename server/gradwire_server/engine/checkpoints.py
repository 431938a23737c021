"""Where long work stops if nobody waits for it any longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import length_hint
from typing import TypeVar

T = TypeVar("T")

Checkpoint = Callable[[], None]
"""Called every now and then during a computation; stops it by raising."""

BETWEEN_CHECKPOINTS = 512
"""Instructions that run, and nodes that are checked or planned, without asking whether anybody still waits."""


def unhurried() -> None:
    """A checkpoint of work that somebody waits for however long it takes."""


def checked(items: Iterable[T], checkpoint: Checkpoint, every: int = BETWEEN_CHECKPOINTS) -> Iterable[T]:
    """The items, with a checkpoint before every few hundred of them, or as many as said, if there are more."""
    # As most are, in requests that take little time altogether.
    few = length_hint(items, every + 1) <= every
    return items if few else _checked(items, checkpoint, every)


def _checked(items: Iterable[T], checkpoint: Checkpoint, every: int) -> Iterator[T]:
    rest = iter(items)
    while some := list(islice(rest, every)):
        checkpoint()
        yield from some
