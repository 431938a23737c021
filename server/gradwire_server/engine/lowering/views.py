"""Views: where the elements of a tensor are, and loops over several of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.graph import Shape
from gradwire_server.engine.lowering.rows import ABSENT, DIRECT, LOADED, SPREAD

Strides = tuple[int, ...]


def contiguous_strides(shape: Shape) -> Strides:
    """Strides of row-major elements, in elements."""
    return tuple(accumulate(reversed(shape[1:]), mul, initial=1))[::-1] if shape else ()


class View(NamedTuple):
    """Elements of a tensor in a buffer; everything counts elements."""

    buffer: int
    place: int
    distance: int
    """From one example to the next; 0 where all share the tensor."""
    shape: Shape
    """For one example."""
    strides: Strides
    offset: int = 0
    """Where the first element is, behind the place."""
    root: int = -1
    """The node whose storage it is."""

    @property
    def size(self) -> int:
        """Elements of one example."""
        return prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements of one example from the first to the last, with gaps."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))

    @property
    def contiguous(self) -> bool:
        """Whether elements stand one after another, row-major."""
        expected = contiguous_strides(self.shape)
        return self.size == 0 or all(
            n == 1 or have == want for n, have, want in zip(self.shape, self.strides, expected, strict=True)
        )

    @property
    def ref(self) -> tuple[int, int, int, int]:
        """The integers of a reference."""
        return self.buffer, self.place, self.offset, self.distance

    def element(self, index: int) -> View:
        """The flat element of this number."""
        moved = int(self.offsets(np.array([index]))[0])
        return self._replace(shape=(), strides=(), offset=self.offset + moved)

    def offsets(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Offsets of flat elements behind the first one; ``indices``: [elements]."""
        offsets = np.zeros(len(indices), np.int64)
        rest = indices
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            rest, index = np.divmod(rest, length)
            offsets += index * stride
        return offsets

    def permuted(self, axes: Sequence[int]) -> View:
        """The axes in another order."""
        return self._replace(
            shape=tuple(self.shape[axis] for axis in axes), strides=tuple(self.strides[axis] for axis in axes)
        )

    def reshaped(self, shape: Shape) -> View:
        """Elements that stand one after another, in another shape."""
        return self._replace(shape=shape, strides=contiguous_strides(shape))

    def expanded(self, axes: Sequence[int]) -> View:
        """The view with axes of size 1 at these numbers of the result, which ascend."""
        shape, strides = list(self.shape), list(self.strides)
        for axis in axes:
            shape.insert(axis, 1)
            strides.insert(axis, 0)
        return self._replace(shape=tuple(shape), strides=tuple(strides))

    def broadcast(self, shape: Shape) -> View:
        """The view as elements of a larger shape see it."""
        missing = len(shape) - len(self.shape)
        own = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        repeated = tuple(0 if have == 1 != want else s for have, want, s in zip(own, shape, strides, strict=True))
        return self._replace(shape=shape, strides=repeated)


class Loop(NamedTuple):
    """One loop of a nest."""

    length: int
    lanes: bool
    """Whether lanes multiply the length."""
    strides: tuple[int, ...]
    """One for each operand."""


def nest(shape: Shape, views: Sequence[View | None], *, lanes: bool) -> list[Loop]:
    """Loops over lanes and the axes of a shape, outermost first, as few as possible; views have that shape."""
    own = [view.strides if view else (0,) * len(shape) for view in views]
    loops = [Loop(n, False, tuple(s[axis] for s in own)) for axis, n in enumerate(shape) if n != 1]
    if lanes:
        loops.insert(0, Loop(1, True, tuple(view.distance if view else 0 for view in views)))
    merged: list[Loop] = []
    for loop in loops:
        outer = merged[-1] if merged else None
        if (
            outer
            and not loop.lanes
            and all(o == i * loop.length for o, i in zip(outer.strides, loop.strides, strict=True))
        ):
            merged[-1] = Loop(outer.length * loop.length, outer.lanes, loop.strides)
        else:
            merged.append(loop)
    return merged or [Loop(1, False, (0,) * len(views))]


def access(loops: Sequence[Loop], operand: int, view: View | None) -> int:
    """How an operand of a nest is read."""
    if view is None:
        return ABSENT
    strides = [loop.strides[operand] for loop in loops]
    if not any(strides) and (len(loops) > 1 or loops[0].length > 1 or loops[0].lanes):
        return SPREAD
    expected = 1
    for loop, stride in zip(reversed(loops), reversed(strides), strict=True):
        if stride != expected and (loop.length > 1 or loop.lanes):
            return LOADED
        expected *= loop.length
    return DIRECT
