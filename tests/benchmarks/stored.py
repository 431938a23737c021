"""Mini-batches of 200 MB of examples that the server keeps, against rows that are sent, and against NumPy by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

import gradwire as gw
from tests.benchmarks.peers import serving
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave
from tests.benchmarks.unary import SERVE

EXAMPLES, FEATURES = 250_000, 100

LARGE = 25_000
"""Rows of a batch that takes longer than a call, so that a server can be as fast as NumPy in the same process."""

Step = Callable[[], tuple[Any, Any]]


def hinge_by_hand(w: Any, phi: Any, y: Any) -> tuple[Any, Any]:
    """Value and gradient of the mean hinge loss, as one writes it in NumPy."""
    margin = 1 - phi @ w * y
    slope = np.where(margin > 0, -y, 0.0)
    return np.maximum(0, margin).mean(), slope @ phi / len(y)


def steps(make: Callable[[Any], Any], batches: list[Any], call: Callable[[Any], tuple[Any, Any]]) -> Step:
    """A step over the next batch each time it is called."""
    following = cycle(batches)
    return lambda: call(make(next(following)))


def compare() -> Iterator[Row]:
    """Rows that follow each other, and rows in random order, for small and large batches."""
    random = np.random.default_rng(0)
    phi = random.normal(size=(EXAMPLES, FEATURES))
    y = np.where(random.random(EXAMPLES) < 0.5, -1.0, 1.0)
    w = random.normal(size=FEATURES) / 10
    feature = gw.input("phi", shape=(FEATURES,), per_example=True)
    label = gw.input("y", per_example=True)
    loss = gw.maximum(0, 1 - gw.dot(gw.parameter("w", shape=(FEATURES,)), feature) * label)
    with serving(*SERVE) as address, gw.connect(address) as client:
        hinge, data = client.value_and_grad(loss), client.examples(phi=phi, y=y)

        def held(examples: gw.Examples) -> tuple[Any, Any]:
            return hinge(w=w, examples=examples)

        def sent(arrays: tuple[Any, Any]) -> tuple[Any, Any]:
            return hinge(w=w, phi=arrays[0], y=arrays[1])

        def pair(batch: Any) -> tuple[Any, Any]:
            return phi[batch], y[batch]

        for count in (500, 2_500, LARGE):
            ranges = [slice(start, start + count) for start in range(0, EXAMPLES, count)]
            lists = np.array_split(random.permutation(EXAMPLES), EXAMPLES // count)
            for batches in (ranges, lists):
                by_hand = hinge_by_hand(w, phi[batches[0]], y[batches[0]])
                value, gradients = held(data[batches[0]])
                np.testing.assert_allclose(value, by_hand[0], rtol=1e-10)
                np.testing.assert_allclose(gradients["w"], by_hand[1], rtol=1e-6, atol=1e-12)
            timings = interleave(
                {
                    "range": steps(data.__getitem__, ranges, held),
                    "rows sent": steps(pair, ranges, sent),
                    **({"all sent": partial(sent, (phi, y))} if count == 2_500 else {}),
                    "indices": steps(data.__getitem__, lists, held),
                    "NumPy": steps(pair, lists, lambda arrays: hinge_by_hand(w, *arrays)),
                },
                seconds=8,
            )
            work = f"hinge, {count} of {EXAMPLES} examples held, {FEATURES} features"
            reach: dict[str, float | None] = {"rows sent": None}
            if count == 2_500:
                reach["all sent"] = 20.0
            yield from rows(work, timings, "range", reach)
            yield from rows(work, timings, "indices", {"NumPy": 1.0 if count == LARGE else None})
