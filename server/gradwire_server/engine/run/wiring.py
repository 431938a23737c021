"""Which array of a request, or of its results, each buffer has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.graph.checking import Checked, Source
from gradwire_server.engine.graph.graph import Reduction, Shape
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.buffers import MODES, Attached, Own, Role
from gradwire_server.engine.lowering.code import Code
from gradwire_server.engine.lowering.question import Question
from gradwire_server.engine.run.layout import Layout

LOSSES = r.C_BUFFERS + 2 * Own.LOSSES
"""Where a block has the address of the losses of examples."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """How the gradient in a source comes about."""

    name: str
    array: int
    """Number of its array among results; -1 if it is zero."""
    shape: Shape
    """With the axis of examples, if it has one."""
    repeated: bool
    """Whether one array is that of each example."""
    divided: bool
    """Whether it is to be divided by the number of examples."""
    as_it_is: bool
    """Whether it is that array."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Arrays of a request by the integers of a block that hold their addresses."""

    sources: tuple[str, ...]
    """Names of arrays that the machine reads."""
    results: tuple[Shape, ...]
    """Shapes of arrays that it fills."""
    numbers: tuple[int, ...]
    """Numbers of results, for each place in the block that one has."""
    slots: tuple[int, ...]
    """Places in the block of sources, of results, and, if each example has a loss of its own, of the losses."""
    gradients: tuple[Gradient, ...]
    outputs: Mapping[int, int]
    """Numbers of results by node."""


def wiring_of(
    graph: Checked,
    code: Code,
    question: Question,
    wrt: tuple[Source, ...],
    layout: Layout,
    reduction: Reduction,
    checkpoint: Checkpoint = unhurried,
) -> Wiring:
    """The wiring of requests of one kind; raises what ``checkpoint`` raises."""
    names = {source.node: source.name for source in graph.sources}
    examples = layout.examples
    places: dict[Attached, list[int]] = {}
    sources: list[tuple[str, int]] = []
    for number, own in enumerate(checked(code.attached, checkpoint), start=len(MODES)):
        at = r.C_BUFFERS + 2 * number
        if own.role is Role.SOURCE:
            sources.append((names[own.node], at))
        elif own.role in (Role.GRADIENT, Role.OUTPUT):
            places.setdefault(own, []).append(at)
        elif own.role is Role.SUM and layout.direct:
            places.setdefault(own._replace(role=Role.GRADIENT), []).append(at)
    results = list(places)
    numbers = {own: number for number, own in enumerate(results)}

    def shape(own: Attached) -> Shape:
        return ((examples,) if own.examples else ()) + graph.shape(own.node)

    def gradient(source: Source) -> Gradient:
        axis = source.per_example or question.separate
        own, shared = (Attached(Role.GRADIENT, source.node, of_each) for of_each in (axis, False))
        found = own if own in places else shared
        array, repeated = numbers.get(found, -1), axis and found is shared
        divided = source.per_example and reduction is Reduction.MEAN
        as_it_is = array >= 0 and not repeated and not divided
        own_shape = ((examples,) if axis else ()) + source.shape
        return Gradient(source.name, array, own_shape, repeated, divided, as_it_is)

    filled = [(numbers[own], at) for own in checked(results, checkpoint) for at in places[own]]
    slots = [at for _, at in sources] + [at for _, at in filled]
    return Wiring(
        sources=tuple([name for name, _ in sources]),
        results=tuple([shape(own) for own in checked(results, checkpoint)]),
        numbers=tuple([number for number, _ in filled]),
        slots=tuple([*slots, LOSSES] if question.separate else slots),
        gradients=tuple([gradient(source) for source in checked(wrt, checkpoint)]),
        outputs={own.node: number for own, number in numbers.items() if own.role is Role.OUTPUT},
    )
