"""Code: all that the machine is told about a question, whatever the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.graph import Array
from gradwire_server.engine.lowering.buffers import Attached


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that run together."""

    begin: int
    end: int
    work: float
    """Elementary steps of one lane, about a third of a nanosecond each."""
    rows: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Elements of what a room has."""

    own: Mapping[int, int]
    """Values, gradients and sums, by buffer; those of lanes for one lane."""
    source_sums: int
    """Sums in sources, behind those in other nodes."""
    kept: Mapping[int, int]
    """Values and gradients that are kept, for one example, by node."""
    scratch: int
    wide: int
    """Numbers of float64 for long sums; for each lane, those below."""
    wide_of_lane: int


@dataclass(frozen=True, slots=True)
class Data:
    """Numbers that rows refer to."""

    constants: Array
    """[elements], float64; the first is the gradient of the loss."""
    integers: NDArray[np.int64]
    listed: tuple[Array, ...]
    """Arrays whose addresses are in rows."""


@dataclass(frozen=True, slots=True)
class Code:
    """Rows, and what they need."""

    rows: NDArray[np.int64]
    sections: tuple[Section, ...]
    """Forward of what examples share, forward and backward of lanes, backward of what examples share; and gradients of
    weights, which go before that."""
    sums: tuple[tuple[int, int, int], ...]
    """Nodes whose gradients add up over examples, where each begins among the sums, and how many elements it has."""
    sizes: Sizes
    modes: tuple[int, ...]
    """How each buffer is addressed."""
    attached: tuple[Attached, ...]
    """Buffers of a request, behind those that every code has."""
    data: Data
    has_products: bool
    """Whether lanes take part in matrix products."""
    deferrable: int
    """Elements of an example that would be kept if gradients of weights were deferred; 0 if there are none."""

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        data = self.data
        return sum(array.nbytes for array in (self.rows, data.constants, data.integers, *data.listed))
