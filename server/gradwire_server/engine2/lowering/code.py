"""Code: all that the machine is told about a question, whatever the arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine2.graph.graph import Array
from gradwire_server.engine2.lowering.buffers import Attached


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
    """Elements of buffers; those of lanes for one lane."""

    shared: int
    shared_gradients: int
    shared_passive: int
    values: int
    gradients: int
    passive: int
    extra: int
    sums: int
    scratch: int
    wide: int
    """Elements of float64 for long sums, and for each lane those below."""
    wide_of_lane: int


@dataclass(frozen=True, slots=True)
class Code:
    """Rows, and what they need."""

    rows: NDArray[np.int64]
    sections: tuple[Section, Section, Section, Section]
    """Forward of what examples share, forward and backward of lanes, backward of what examples share."""
    sums: tuple[tuple[int, int, int], ...]
    """Nodes whose gradients add up over examples, where each begins among the sums, and how many elements it has."""
    sizes: Sizes
    modes: tuple[int, ...]
    """How each buffer is addressed."""
    attached: tuple[Attached, ...]
    """Buffers of a request, behind those that every code has."""
    constants: Array
    """[elements], float64; the first is the gradient of the loss."""
    integers: NDArray[np.int64]
    kept: tuple[Array, ...]
    """Arrays whose addresses are in rows."""
    has_products: bool
    """Whether lanes take part in matrix products."""
