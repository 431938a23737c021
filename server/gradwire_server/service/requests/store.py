"""Uploaded examples, kept for later requests within a budget of bytes."""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Mapping
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np

from gradwire_server.codec import Array, Layout
from gradwire_server.errors import Reason, Refusal, refuse

ALIGNMENT = 64
"""Bytes at a multiple of which each tensor begins, as those of NumPy do that are large."""

SET_BYTES, TENSOR_BYTES = 4000, 1000
"""Rough memory of examples and of a tensor of theirs, besides elements and name."""


class Examples(NamedTuple):
    """Tensors that have an axis of examples."""

    arrays: Mapping[str, Array]
    """[N, *shape], by name; all in one piece of memory, which is free when nothing refers to any of them."""
    rows: int
    """N."""
    nbytes: int
    """What they take of the budget."""


class StoreObserver(Protocol):
    """Who wants to know what is kept, such as metrics."""

    def stored(self, kept: int, nbytes: int) -> None:
        """So many sets of examples are kept now; all that counts in the budget has so many bytes."""

    def uploaded(self) -> None:
        """Examples came that were not kept already."""

    def forgot(self) -> None:
        """Examples were forgotten for lack of room."""


class ExampleStore:
    """Examples by id, within a budget that holds strictly. Safe to share among threads.

    What arrives counts from when it is announced on, and what is forgotten until nobody computes with it any more.
    """

    def __init__(self, max_bytes: int, observer: StoreObserver) -> None:
        self._max_bytes = max_bytes
        self._observer = observer
        self._lock = Lock()
        self._kept: OrderedDict[str, Examples] = OrderedDict()
        self._kept_bytes = 0
        self._nbytes = 0
        """Bytes of what is kept, arrives or is still used."""
        self._freed: deque[int] = deque()
        """Bytes of what is not used any more, and was not subtracted yet: memory may become free at any time, also
        while this thread has the lock."""

    def find(self, examples_id: str) -> Examples | None:
        """The examples of this id, if they are kept."""
        with self._lock:
            found = self._kept.get(examples_id)
            if found is not None:
                self._kept.move_to_end(examples_id)
            return found

    def receive(self, layouts: Mapping[str, Layout]) -> Examples:
        """Room for examples that are announced; others may be forgotten for it.

        Raises:
            Refusal: LIMIT_EXCEEDED if they are too large for the budget, OVERLOADED if they are so now.
        """
        names = sum(4 * len(name) for name in layouts)
        elements = sum(_aligned(layout.nbytes) for layout in layouts.values())
        nbytes = elements + SET_BYTES + TENSOR_BYTES * len(layouts) + names
        with self._lock:
            self._take(nbytes)
            try:
                # It has no pages that nobody wrote to.
                memory = np.empty(elements + ALIGNMENT, np.uint8)
            except MemoryError:
                self._freed.append(nbytes)
                raise
            weakref.finalize(memory, self._freed.append, nbytes).atexit = False
            self._tell()
        arrays, start = {}, -memory.ctypes.data % ALIGNMENT
        for name, (dtype, shape, size) in layouts.items():
            part = memory[start : start + size * dtype.itemsize]
            arrays[name] = part.view(dtype).reshape(shape)
            start += _aligned(part.nbytes)
        return Examples(arrays, next(iter(layouts.values())).shape[0], nbytes)

    def put(self, examples_id: str, received: Examples) -> bool:
        """Keep examples that have arrived; False if they are kept already."""
        with self._lock:
            if examples_id in self._kept:
                self._kept.move_to_end(examples_id)
                return False
            for array in received.arrays.values():
                array.flags.writeable = False
            self._kept[examples_id] = received
            self._kept_bytes += received.nbytes
            self._tell()
        self._observer.uploaded()
        return True

    def settle(self) -> None:
        """Have the observer know what has become free since it was last told."""
        if self._freed:
            with self._lock:
                self._tell()

    def _take(self, nbytes: int) -> None:
        """Count so many bytes more, for which what was used longest ago is forgotten."""
        self._settle()
        if nbytes > self._max_bytes:
            raise self._too_large(nbytes)
        # What is kept may be used too; that shows when it is forgotten.
        if self._nbytes - self._kept_bytes + nbytes > self._max_bytes:
            raise self._full(nbytes)
        while self._nbytes + nbytes > self._max_bytes:
            if not self._kept:
                raise self._full(nbytes)
            _, forgotten = self._kept.popitem(last=False)
            self._kept_bytes -= forgotten.nbytes
            self._observer.forgot()
            del forgotten
            self._settle()
        self._nbytes += nbytes

    def _settle(self) -> None:
        while self._freed:
            self._nbytes -= self._freed.popleft()

    def _tell(self) -> None:
        self._settle()
        self._observer.stored(len(self._kept), self._nbytes)

    def _too_large(self, nbytes: int) -> Refusal:
        return refuse(
            Reason.LIMIT_EXCEEDED,
            f"the examples take {nbytes} bytes; this server keeps at most {self._max_bytes} of them "
            "(max_stored_bytes); upload fewer, or send them with each request",
            "tensors",
            found=nbytes,
            limit=self._max_bytes,
            setting="max_stored_bytes",
        )

    def _full(self, nbytes: int) -> Refusal:
        return refuse(
            Reason.OVERLOADED,
            f"examples that arrive or are computed with leave no room for {nbytes} bytes of {self._max_bytes} "
            "(max_stored_bytes); try again later",
            "tensors",
            found=self._nbytes + nbytes,
            limit=self._max_bytes,
            setting="max_stored_bytes",
        )


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
