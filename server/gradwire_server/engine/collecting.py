"""Python's search for cycles, put off while many objects are made, of which none is in one."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

NEVER = 1 << 30

_lock = Lock()
_within = 0
"""How many are in such a block."""
_usual = (0, 0, 0)
"""The thresholds outside."""


@contextmanager
def no_full_collections() -> Iterator[None]:
    """Search only what is young while any thread is in the block.

    A search of all goes through millions of objects while a large graph is prepared, again and again as they become
    more: a third of the time, and no other thread runs meanwhile. It is a setting of the process, also where that is
    the user's own, and is as it was after the block.
    """
    global _within, _usual  # noqa: PLW0603  (of the process, as what they speak of)
    with _lock:
        if not _within:
            _usual = gc.get_threshold()
            gc.set_threshold(*_usual[:2], NEVER)
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                gc.set_threshold(*_usual)
