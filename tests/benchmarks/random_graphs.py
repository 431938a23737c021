"""Random graphs of scalars in which every node is alive, as columns, and in the terms of any library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import graph_pb2 as pb
from gradwire.v1 import tensor_pb2

SOURCES = 16
WINDOW = 200
"""How far back an operation looks for its operands."""

OPS = ("add", "mul", "max", "sigmoid", "tanh")
MAX, BINARY = 2, 3
"""The place of the maximum, and how many take two operands; they come first."""

CODES = (
    pb.SCALAR_OP_ADD,
    pb.SCALAR_OP_MUL,
    pb.SCALAR_OP_MAX,
    pb.SCALAR_OP_SIGMOID,
    pb.SCALAR_OP_TANH,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Operations on earlier values, of which the first ones are the sources; the loss is the mean of the loose ends."""

    ops: NDArray[np.int64]
    """Places in ``OPS``."""
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    """Meaningless for operations on one operand."""
    ends: NDArray[np.int64]


def recipe(nodes: int, seed: int = 0) -> Recipe:
    """A graph of that many operations, each as likely as the others.

    The second operand is a source or a squashed value, so that neither values nor gradients grow with the depth, and
    the first one of a maximum is a sum or a product, so that there are no ties, on which libraries differ.
    """
    random = np.random.default_rng(seed)
    ops = random.integers(len(OPS), size=nodes)
    places = np.arange(SOURCES, SOURCES + nodes)
    first = np.maximum(0, places - WINDOW)

    def chosen(among: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each place, one of these in its window, or the last before it."""
        before = np.searchsorted(among, places)
        return among[random.integers(np.minimum(np.searchsorted(among, first), before - 1), before)]

    sources = np.arange(SOURCES)
    sums = np.concatenate([sources[:1], SOURCES + np.flatnonzero(ops < MAX)])
    left = np.where(ops == MAX, chosen(sums), random.integers(first, places))
    right = chosen(np.concatenate([sources[1:], SOURCES + np.flatnonzero(ops >= BINARY)]))
    read = np.zeros(SOURCES + nodes, bool)
    read[left] = read[right[ops < BINARY]] = True
    return Recipe(ops, left, right, np.flatnonzero(~read))


def packed(written: Recipe, sources: Sequence[pb.Node]) -> pb.Graph:
    """The graph as data: one packed node on these sources, which have ``SOURCES`` elements together."""
    binary = written.ops < BINARY
    arguments = np.stack([written.left, written.right], axis=1)
    # Behind the sources comes the factor of the mean.
    arguments[arguments >= SOURCES] += 1
    keep = np.stack([np.full(len(binary), True), binary], axis=1)
    ends = written.ends + (written.ends >= SOURCES)
    total = SOURCES + 1 + len(binary)
    node = pb.Scalars(
        operands=range(len(sources)),
        constants=[1 / len(ends)],
        ops=[*np.array(CODES)[written.ops].tolist(), pb.SCALAR_OP_ADD, pb.SCALAR_OP_MUL],
        arities=[*(1 + binary).tolist(), len(ends), 2],
        arguments=[*arguments[keep].tolist(), *ends.tolist(), total, SOURCES],
        results=[total + 1],
    )
    loss = pb.Node(reshape=pb.Reshape(operands=[len(sources)]))
    return pb.Graph(nodes=[*sources, pb.Node(scalars=node), loss], loss=len(sources) + 1)


def ordinary(written: Recipe) -> pb.Graph:
    """The graph as data: a node for each operation, on parameters ``x0``, ``x1`` and so on."""
    nodes = [pb.Node(name=f"x{source}", parameter=pb.Parameter()) for source in range(SOURCES)]
    for op, left, right in zip(written.ops.tolist(), written.left.tolist(), written.right.tolist(), strict=True):
        nodes.append(pb.Node())
        getattr(nodes[-1], OPS[op]).operands.extend([left, right] if op < BINARY else [left])
    share = tensor_pb2.Tensor(values=[1 / len(written.ends)])
    nodes += [
        pb.Node(add=pb.Add(operands=written.ends.tolist())),
        pb.Node(constant=pb.Constant(value=share)),
        pb.Node(mul=pb.Mul(operands=[len(nodes), len(nodes) + 1])),
    ]
    return pb.Graph(nodes=nodes, loss=len(nodes) - 1)


def build(
    written: Recipe,
    sources: Sequence[Any],
    write: Sequence[Callable[..., Any]],
    total: Callable[[Sequence[Any]], Any] = sum,
) -> Any:
    """The loss in the terms of a library, whose functions stand in ``write`` in the order of ``OPS``."""
    values = list(sources)
    for op, left, right in zip(written.ops.tolist(), written.left.tolist(), written.right.tolist(), strict=True):
        function = write[op]
        values.append(function(values[left], values[right]) if op < BINARY else function(values[left]))
    ends = [values[end] for end in written.ends.tolist()]
    return total(ends) * (1 / len(ends))
