"""What is measured: losses of several sizes, on batches of several sizes, some of them kept out of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from tests.benchmarks import workloads


@dataclass(frozen=True, slots=True)
class Size:
    """How large a call is, in what its cost is made of."""

    parameters: float
    """Numbers to differentiate in."""
    examples: float
    """Examples of the call."""
    numbers: float
    """Numbers of one example, its label included."""
    units: float
    """Functions such as tanh and sigmoid of one example."""
    products: float
    """Multiplications of one example, forward and backward, each with its addition."""


@dataclass(frozen=True, slots=True)
class Point:
    """A perceptron with tanh between its layers; with one layer it is a logistic regression."""

    widths: tuple[int, ...]
    """Numbers of an example without its label, then units of each layer; the last has one unit."""
    examples: int
    held: bool = False
    """Whether the fit does not see it, so that it says how wrong the model is."""

    @property
    def size(self) -> Size:
        """In numbers that the model knows."""
        layers = list(pairwise(self.widths))
        weights = [before * after for before, after in layers]
        parameters = sum(weights) + sum(self.widths[1:])
        # Forward; backward into the weights; and backward into the values, but for those that come in.
        return Size(
            parameters=parameters,
            examples=self.examples,
            numbers=self.widths[0] + 1,
            units=sum(self.widths[1:]),
            products=2 * sum(weights) + sum(weights[1:]),
        )

    def workload(self) -> workloads.Workload:
        """The loss and its arrays, in doubles."""
        if len(self.widths) == 2:
            return workloads.logistic(self.examples, self.widths[0], np.float64)
        return workloads.regressor(self.examples, self.widths, np.float64)


FITTED = (
    *(Point((features, 1), examples) for features, examples in product((10, 100, 1000), (1, 256, 4096))),
    *(Point((30, 32, 1), examples) for examples in (1, 32, 2048)),
    *(Point((100, 256, 1), examples) for examples in (1, 64, 1024)),
    *(Point((784, 256, 1), examples) for examples in (1, 256)),
    *(Point((1000, 1000, 1), examples) for examples in (1, 64)),
)
HELD = (
    Point((30, 1), 1000, held=True),
    Point((300, 1), 500, held=True),
    Point((50, 1), 20_000, held=True),
    Point((64, 64, 1), 128, held=True),
    Point((200, 500, 1), 200, held=True),
    Point((500, 500, 1), 20, held=True),
)
POINTS = (*FITTED, *HELD)
SMALL = (Point((10, 1), 1), Point((100, 1), 32), Point((30, 32, 1), 32))
"""Calls that the event loop computes itself, for a server with many callers."""
