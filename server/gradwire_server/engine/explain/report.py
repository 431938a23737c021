"""The first infinity or NaN of one example, found in the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.explain import culprits
from gradwire_server.engine.explain.nonfinite import NonFinite, OperandValue, Phase
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Array, Graph, Shape
from gradwire_server.engine.graph.opcodes import ELEMENTWISE, SOURCES, Opcode, marks
from gradwire_server.engine.graph.shapes import first_true
from gradwire_server.engine.reference.batches import single
from gradwire_server.engine.reference.interpreter import Mask, Numbers, backward, forward, needed, read, step
from gradwire_server.engine.reference.rule import Contribution, Part


def explain_non_finite(
    program: Checked,
    arrays: Mapping[str, Array],
    dtype: np.dtype[np.floating],
    wrt: Iterable[int],
    outputs: Iterable[int],
    example: int | None = None,
    stop: Checkpoint = unhurried,
) -> NonFinite | None:
    """The report on one example, or None if the reference finds nothing in it that is not finite.

    Args:
        program: The graph.
        arrays: For each parameter and input by name, what it is for this example.
        dtype: Float dtype of the request.
        wrt: Nodes of the sources that the loss is differentiated in.
        outputs: Nodes that are needed besides the loss.
        example: Number of the example.
        stop: Called before each step; may raise.
    """
    wanted = needed(program, [program.graph.loss, *outputs])
    values = forward(program, arrays, dtype, wanted, stop)
    report = bad_value(program, values, wanted, example, stop)
    if report is not None:
        return report
    wanted = program.active(wrt)
    gradients = backward(program, values, wanted, checkpoint=stop)
    return bad_step(program, values, gradients, wanted, example, stop)


def bad_sum(program: Checked, node: int, total: Array) -> NonFinite | None:
    """The report on a sum over examples, of losses or of gradients in a node, if it is not finite."""
    place = first_true(~np.isfinite(total))
    return None if place is None else _report(program, Phase.REDUCTION, node, place, float(total[place]))


@np.errstate(all="ignore")
def bad_value(
    program: Checked, values: Numbers, wanted: Mask, example: int | None, stop: Checkpoint
) -> NonFinite | None:
    """The report on the lowest of the wanted nodes whose value is not finite."""
    bad = _not_finite(values, wanted, stop)
    node = int(bad.argmax())
    if not bad[node]:
        return None
    place, value = first_true(~np.isfinite(values[node])) or (), values[node]
    shown: culprits.Shown = []
    if program.graph.opcode(node) not in SOURCES:
        batch = single(program, node)
        facts, operands = read(program, batch, values, stop)
        shown = culprits.of_value(batch.opcode, facts, operands, value, place)
    inside = _inside(program.graph, node, values)
    return _report(program, Phase.VALUE, node, place, float(value[place]), example, inside, shown)


@np.errstate(all="ignore")
def bad_step(
    program: Checked, values: Numbers, gradients: Numbers, wanted: Mask, example: int | None, stop: Checkpoint
) -> NonFinite | None:
    """The report on the highest node whose backward step makes a gradient that is not finite, of a wanted node.

    Only the steps that lead to such gradients are taken again, one by one.
    """
    graph, bad = program.graph, _not_finite(gradients, wanted, stop)
    owners = np.repeat(np.arange(len(graph)), np.diff(graph.starts))
    totals = Numbers(len(graph), values.dtype)
    totals.tensors = {node: np.zeros_like(tensor) for node, tensor in gradients.tensors.items() if bad[node]}
    for node in np.unique(owners[wanted[owners] & bad[graph.operands]])[::-1].tolist():
        batch = single(program, node)
        contributions: Any = step(program, batch, values, gradients, stop)
        if batch.opcode is Opcode.STACK:
            [contributions] = contributions
        for slot, (operand, contribution) in enumerate(zip(graph.operands_of(node), contributions, strict=True)):
            if contribution is None or not bad[operand]:
                continue
            totals.add(operand, contribution)
            total = totals[operand]
            place = _first_bad(total, contribution)
            if place is not None:
                facts, operands = read(program, batch, values, stop)
                operands = list(operands[0]) if batch.opcode is Opcode.STACK else operands
                g, out = gradients[node], values[node]
                shown = culprits.of_gradient(batch.opcode, facts, g, operands, out, slot, place)
                inside = _inside(graph, node, values)
                return _report(program, Phase.GRADIENT, node, place, float(total[place]), example, inside, shown)
    return None


def _not_finite(numbers: Numbers, wanted: Mask, stop: Checkpoint) -> Mask:
    """The wanted nodes that have an element which is not finite."""
    bad: Mask = wanted & ~np.isfinite(numbers.scalars)
    for node, tensor in checked(numbers.tensors.items(), stop, 16):
        bad[node] = wanted[node] and tensor.dtype != np.int64 and not np.isfinite(tensor).all()
    return bad


def _first_bad(total: Array, contribution: Contribution) -> Shape | None:
    """The place of the first element that is not finite, which is where something was added."""
    if not isinstance(contribution, Part):
        return first_true(~np.isfinite(total))
    place = tuple(map(int, np.unravel_index(int(contribution.places), total.shape)))
    return None if np.isfinite(total[place]) else place


def _report(
    program: Checked,
    phase: Phase,
    node: int,
    place: Shape,
    value: float,
    example: int | None = None,
    inside: str = "",
    shown: Sequence[float | None] = (),
) -> NonFinite:
    graph = program.graph
    if inside and graph.origins is not None:
        # What callers know is the vector of results.
        results = graph.operands_of(int(graph.origins.nodes[graph.sent(node)]))
        place = (results.index(node),) if phase is Phase.VALUE and node in results else ()
    operands = zip(graph.operands_of(node), () if inside else shown, strict=False)
    return NonFinite(
        phase=phase,
        node=graph.sent(node),
        name=graph.label(node),
        example=example if program.per_example[node] else None,
        position=place,
        value=value,
        operands=tuple(_operand(graph, operand, value) for operand, value in operands if value is not None),
        inside=inside,
    )


def _operand(graph: Graph, node: int, value: float) -> OperandValue:
    if graph.opcode(node) is Opcode.ELEMENT:
        [node] = graph.operands_of(node)
    return OperandValue(node=graph.sent(node), name=graph.label(node), value=value)


def _inside(graph: Graph, node: int, values: Numbers) -> str:
    """The packed operation or constant that a node is, or nothing."""
    if graph.origins is None or graph.origins.position[node] < 0 or graph.opcode(node) is Opcode.ELEMENT:
        return ""
    position, name = int(graph.origins.position[node]), graph.opcode(node).name.lower()
    if graph.opcode(node) is Opcode.CONSTANT:
        return f"the constant at position {position}"
    # Each operation is a node, and the operations of a packed node stand together.
    siblings = graph.origins.sent == graph.sent(node)
    first = graph.origins.position[siblings & marks(ELEMENTWISE)[graph.opcodes]].min()
    own = graph.operands_of(node)
    read = ", ".join(f"{values[operand]:g}" for operand in own[:4]) + (", ..." if len(own) > 4 else "")
    return f"operation {position - first} (position {position}, {name}), {name}({read}),"
