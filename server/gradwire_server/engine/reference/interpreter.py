"""The interpreter: one example through a checked graph, forward and then backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.graph import traversal
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Array, Input, Parameter
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.graph.shapes import size, text
from gradwire_server.engine.reference.arrangement import IndexRangeError
from gradwire_server.engine.reference.batches import Batch, Nodes, batches
from gradwire_server.engine.reference.rule import Contribution, Facts, Part
from gradwire_server.engine.reference.table import RULES
from gradwire_server.errors import Reason, Refusal, refuse

Mask = NDArray[np.bool_]
"""[nodes]"""

Observer = Callable[[Batch, int, Array | Part], None]
"""Sees what a batch has added to the gradients of its operands in a slot."""

TEMPORARY, ORDERED_BYTES = 6, 100
"""Arrays as large as the largest tensor that a step makes, at most, and bytes a node that putting in order takes."""


class Numbers:
    """An array for each node, for one example: scalars in one vector, tensors on their own."""

    def __init__(self, nodes: int, dtype: np.dtype[np.floating]) -> None:
        self.dtype = dtype
        self.scalars = np.zeros(nodes, dtype)
        """[nodes]"""
        self.tensors: dict[int, Array] = {}
        """By node; row indices are here whatever their shape."""

    def __getitem__(self, nodes: Nodes) -> Array:
        array: Array = self.tensors[nodes] if isinstance(nodes, int) and nodes in self.tensors else self.scalars[nodes]
        return array

    def __setitem__(self, nodes: Nodes, array: Array) -> None:
        if isinstance(nodes, int) and (array.ndim or array.dtype != self.dtype):
            self.tensors[nodes] = np.asarray(array, order="C")
        else:
            self.scalars[nodes] = array

    def add(self, nodes: Nodes, contribution: Array | Part) -> None:
        """Add to the arrays of nodes, which may occur several times."""
        if not isinstance(nodes, int):
            np.add.at(self.scalars, nodes, contribution)
        elif isinstance(contribution, Part):
            np.add.at(self.tensors[nodes].reshape(-1), contribution.places, contribution.numbers)
        else:
            self[nodes] = np.add(self[nodes], contribution, out=self.tensors.get(nodes))


def needed(program: Checked, nodes: Iterable[int]) -> Mask:
    """The nodes that some nodes depend on, and those themselves."""
    marked = np.zeros(len(program), np.bool_)
    marked[list(nodes)] = True
    traversal.ancestors(program.graph.starts, program.graph.operands, marked)
    return marked


def forward(
    program: Checked,
    arrays: Mapping[str, Array],
    dtype: np.dtype[np.floating],
    wanted: Mask,
    checkpoint: Checkpoint = unhurried,
) -> Numbers:
    """The values of the wanted nodes; a mask from ``needed`` has all that these depend on.

    ``arrays`` has each parameter and input by name, for one example: row indices in int64, all else in ``dtype``.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    graph, values = program.graph, Numbers(len(program), dtype)
    with np.errstate(all="ignore"):
        values.scalars[:] = np.where(graph.opcodes == Opcode.CONSTANT, graph.numbers, 0)
        for node, content in checked(graph.contents.items(), checkpoint):
            if wanted[node]:
                array = arrays[content.name] if isinstance(content, Parameter | Input) else content
                values[node] = array if array.dtype == np.int64 else array.astype(dtype, copy=False)
        for batch in batches(program, wanted):
            facts, operands = read(program, batch, values, checkpoint)
            try:
                values[batch.nodes] = RULES[batch.opcode].value(facts, operands)
            except IndexRangeError as error:
                raise out_of_range(program, int(batch.nodes), error) from None
    return values


def backward(
    program: Checked,
    values: Numbers,
    wanted: Mask,
    observe: Observer = lambda batch, slot, contribution: None,
    checkpoint: Checkpoint = unhurried,
) -> Numbers:
    """The gradients of the loss in the wanted nodes, which ``Checked.active`` gives; those of others mean nothing.

    Raises whatever ``checkpoint`` and ``observe`` raise.
    """
    gradients = Numbers(len(program), values.dtype)
    for node in checked(np.flatnonzero(wanted & (program.shape_ids != 0)).tolist(), checkpoint):
        gradients[node] = np.zeros(program.shape(node), values.dtype)
    gradients.scalars[program.graph.loss] = 1
    with np.errstate(all="ignore"):
        for batch in batches(program, wanted, backward=True):
            for slot, contribution in enumerate(step(program, batch, values, gradients, checkpoint)):
                operand = batch.operands[slot]
                if contribution is not None and wanted[operand].any():
                    gradients.add(operand, contribution)
                    observe(batch, slot, contribution)
    return gradients


def step(
    program: Checked, batch: Batch, values: Numbers, gradients: Numbers, checkpoint: Checkpoint
) -> Iterable[Contribution]:
    """What a batch contributes to the gradients of its operands, in each slot."""
    facts, operands = read(program, batch, values, checkpoint)
    return RULES[batch.opcode].vjp(facts, gradients[batch.nodes], operands, values[batch.nodes])


def read(program: Checked, batch: Batch, values: Numbers, checkpoint: Checkpoint) -> tuple[Facts, list[Array]]:
    """What a rule is given of a batch: facts and operands."""
    checkpoint()
    graph = program.graph
    attributes = graph.attributes.get(batch.nodes, {}) if isinstance(batch.nodes, int) else {}
    number = graph.numbers[batch.nodes]
    facts = Facts(number if batch.opcode is Opcode.ELEMENT else number.flat[0], attributes, graph.ties, checkpoint)
    return facts, [values[operand] for operand in checked(batch.operands, checkpoint)]


def memory(program: Checked, dtype: np.dtype[np.floating]) -> int:
    """Bytes that values and gradients of all nodes take at most, with what is there while they are made."""
    sizes = np.array([size(shape) for shape in program.shape_table])
    kept = 2 * dtype.itemsize * int(sizes[program.shape_ids].sum() + len(program))
    return kept + TEMPORARY * 8 * int(sizes.max()) + ORDERED_BYTES * len(program)


def out_of_range(program: Checked, node: int, error: IndexRangeError, example: int | None = None) -> Refusal:
    """The refusal of a row index, in words of the graph as it was sent; ``example`` if the indices depend on it."""
    label, sent = program.graph.label(node), program.graph.sent(node)
    whose = "" if example is None else f" of example {example}"
    name = program.graph.names.get(program.graph.operands_of(node)[1])
    index = f"index {error.index}" + (f' of "{name}"' if name else "")
    return refuse(
        Reason.INDEX_OUT_OF_RANGE,
        f'node "{label}" (nodes[{sent}]): {index} at position '
        f"{text(error.position)}{whose} is out of range for {error.rows} rows",
        f"graph.nodes[{sent}]",
        node=label,
        index=error.index,
        rows=error.rows,
    )
