"""Random graphs of scalars in which every node is alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SOURCES = 16
OPS = ("add", "mul", "max", "sigmoid", "tanh")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Calls on earlier values, of which the first ones are the sources; the loss is the mean of the loose ends."""

    calls: tuple[tuple[str, tuple[int, ...]], ...]
    ends: tuple[int, ...]


def recipe(nodes: int, seed: int = 0) -> Recipe:
    """A graph of that many calls."""
    random = np.random.default_rng(seed)
    calls: list[tuple[str, tuple[int, ...]]] = []
    for place in range(SOURCES, SOURCES + nodes):
        op = OPS[random.integers(len(OPS))]
        arity = 1 if op in ("sigmoid", "tanh") else 2
        calls.append((op, tuple(map(int, random.integers(max(0, place - 200), place, size=arity)))))
    read = {operand for _, operands in calls for operand in operands}
    return Recipe(tuple(calls), tuple(place for place in range(SOURCES + nodes) if place not in read))


def build(written: Recipe, sources: list[Any], write: dict[str, Any]) -> Any:
    """The loss in the terms of a library; products are halved so that nothing grows."""
    values = list(sources)
    for op, operands in written.calls:
        values.append(write[op](*(values[operand] for operand in operands)))
    total = values[written.ends[0]]
    for end in written.ends[1:]:
        total = total + values[end]
    return total * (1 / len(written.ends))
