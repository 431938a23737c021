"""Where the nodes of a stage have their values, or their gradients, in one buffer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradwire_server.engine.graph import Shape
from gradwire_server.engine.shapes import size


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of nodes in an arena: for each, its first element and its shape for one example."""

    places: dict[int, tuple[int, Shape]]
    """(offset, shape) by node; offsets count elements of one lane."""
    elements: int
    """Elements of one lane, all together."""
    added: int = 0
    """Of gradients: so many elements, the first ones, are sums and begin with zero; the others are written at once."""

    @classmethod
    def of(cls, nodes: Iterable[int], shapes: Sequence[Shape]) -> Layout:
        """One after another."""
        places = {}
        offset = 0
        for node in nodes:
            places[node] = offset, shapes[node]
            offset += size(shapes[node])
        return cls(places, offset)
