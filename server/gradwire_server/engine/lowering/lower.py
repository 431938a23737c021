"""From a question about a graph to code."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Array, Input
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import arrangement, elementwise, products, reductions
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.buffers import Buffers, Own, Role
from gradwire_server.engine.lowering.code import Code, Data, Section, Sizes
from gradwire_server.engine.lowering.looks import Looks, ranges
from gradwire_server.engine.lowering.question import Question, facts_of
from gradwire_server.engine.lowering.stage import Stage
from gradwire_server.engine.lowering.swarm import Segment, Swarm
from gradwire_server.engine.lowering.values import Values
from gradwire_server.engine.lowering.views import View
from gradwire_server.engine.lowering.weights import Weights
from gradwire_server.engine.lowering.writer import Writer

PATTERNS = {**elementwise.PATTERNS, **reductions.PATTERNS, **products.PATTERNS, **arrangement.PATTERNS}

KEPT = {Role.KEPT, Role.KEPT_GRADIENT}

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def lower(graph: Checked, question: Question, checkpoint: Checkpoint) -> Code:
    """The code of a question; raises what ``checkpoint`` raises."""
    lowering = _Lowering(graph, question, checkpoint)
    sections = (
        lowering.section(lowering.forward, lowering.shared),
        lowering.section(lowering.forward, lowering.lanes),
        lowering.section(lowering.backward, lowering.lanes),
        lowering.section(lowering.backward, lowering.shared),
        lowering.section(lowering.weights, lowering.lanes),
    )
    return lowering.code(sections)


class _Lowering:
    def __init__(self, graph: Checked, question: Question, checkpoint: Checkpoint) -> None:
        self._graph, self._question, self._checkpoint = graph, question, checkpoint
        self._facts = facts = facts_of(graph, question)
        self._buffers, self._writer = Buffers(graph), Writer(checkpoint)
        self._seed = self._buffers.number(1.0)
        self._looks = Looks(graph, facts)
        values = self._values = Values(graph, facts, self._buffers)
        self._opcodes, self._numbers = _with_elements(graph)
        operations = facts.needed & (self._opcodes > Opcode.CONSTANT)
        stages = []
        for of_lanes in (False, True):
            stage = Stage(graph, facts, self._buffers, self._writer, values, lanes=of_lanes)
            members = operations & (facts.lanes == of_lanes)
            stages.append((stage, Swarm(stage, members, self._opcodes, self._numbers, checkpoint)))
        self.shared, self.lanes = stages
        values.see(self._opcodes, self._numbers)
        of_lanes = facts.lanes[graph.graph.loss]
        self.lanes[0].separate = question.separate and bool(of_lanes)
        self.lanes[0].notes = self.shared[0].notes
        self._heavy = Weights(graph, facts, self._opcodes)
        if question.deferred:
            self.lanes[0].weights, self.lanes[0].kept = self._heavy.products, self._heavy.kept

    def section(self, write: Callable[[Stage, Swarm], None], stage: tuple[Stage, Swarm]) -> Section:
        """The rows that a step of the lowering writes."""
        begin, count, self._writer.work = len(self._writer), self._writer.count, 0.0
        write(*stage)
        return Section(begin, len(self._writer), self._writer.work, self._writer.count - count)

    # Forward.

    def forward(self, stage: Stage, swarm: Swarm) -> None:
        """Values of a stage, its outputs, and a look at all."""
        swarm.load_constants()
        for node in checked(swarm.outside(), self._checkpoint):
            swarm.load(node)
        for step in checked(swarm.steps, self._checkpoint):
            if isinstance(step, Segment):
                swarm.write(step, r.SWARM, 0)
            else:
                PATTERNS[Opcode(int(self._opcodes[step]))][0](stage, step)
                swarm.load(step)
        self._look_at_values(stage, swarm)
        self._write_outputs(stage)

    def _look_at_values(self, stage: Stage, swarm: Swarm) -> None:
        self._writer.look(stage.all_places(), swarm.end, r.BAD_VALUE, lanes=stage.lanes)
        stored = [self._values[node] for node in stage.stored if not self._looks.values[node]]
        for view, count in ranges(stored):
            self._writer.look(view, count, r.BAD_VALUE, lanes=stage.lanes)
        for source in checked(self._graph.sources, self._checkpoint):
            own = self._facts.needed[source.node] and not source.integer and source.per_example == stage.lanes
            if own and not self._looks.values[source.node]:
                view = self._buffers.content(source.node)
                self._writer.look(view, view.size, r.BAD_VALUE, lanes=stage.lanes)
        if not stage.lanes:
            self._look_at_constants()

    def _look_at_constants(self) -> None:
        count = self._buffers.size(Own.CONSTANTS)
        if any(np.any(~(np.abs(value) <= LARGEST_FLOAT32)) for value in self._buffers.constants):
            view = View(Own.CONSTANTS, 0, 0, (), ())
            self._writer.look(view, count, r.BAD_VALUE, lanes=False)

    def _write_outputs(self, stage: Stage) -> None:
        loss = self._graph.graph.loss
        lanes = self._facts.lanes[loss]
        if stage.lanes and lanes and self._graph.per_example[loss]:
            view = stage.values[loss]
            losses = View(Own.LOSSES, 0, 1, (), ())
            if self._question.separate:
                stage.tensor(Opcode.COPY, losses, view, shape=())
            if view.distance != 1:
                own = stage.temporary(())
                stage.tensor(Opcode.COPY, own, view, shape=())
                view = own
            self._writer.row(r.LOSS, 0, 0, 0, *view.ref)
        elif not stage.lanes and not lanes:
            self._copy_out(stage, loss, examples=False)
        for node in self._question.outputs:
            copied = node == loss and not stage.lanes
            if self._facts.lanes[node] == stage.lanes and not self._is_integer(node) and not copied:
                self._copy_out(stage, node, examples=bool(self._graph.per_example[node]))

    def _copy_out(self, stage: Stage, node: int, *, examples: bool) -> None:
        """Copy an output; where lanes have a value that all share, that of the first one."""
        view = stage.values[node]
        out = self._buffers.attach(Role.OUTPUT, node, examples=examples)
        self._writer.tensor(Opcode.COPY, out, view, shape=view.shape, lanes=examples)

    def _is_integer(self, node: int) -> bool:
        content = self._graph.graph.contents.get(node)
        return content.integer if isinstance(content, Input) else getattr(content, "dtype", None) == np.int64

    # Backward.

    def backward(self, stage: Stage, swarm: Swarm) -> None:
        """Gradients of a stage, and a look at all."""
        zeroed = swarm.zero()
        loss = self._graph.graph.loss
        if self._facts.active[loss] and bool(self._facts.lanes[loss]) == stage.lanes:
            stage.back(loss, Opcode.COPY, self._seed, shape=())
        self._receive(stage)
        for step in checked(list(reversed(swarm.steps)), self._checkpoint):
            if isinstance(step, Segment):
                if len(step.active):
                    swarm.write(step, r.SWARM_BACK, zeroed)
            else:
                swarm.unload(step)
                self._back(stage, step)
        for node in checked(swarm.outside(), self._checkpoint):
            swarm.unload(node)
        if stage.separate:
            for step in checked(list(reversed(self.shared[1].steps)), self._checkpoint):
                if not isinstance(step, Segment):
                    self._back(stage, step)
        self._look_at_gradients(stage, swarm)

    def weights(self, stage: Stage, swarm: Swarm) -> None:
        """Gradients of weights, from all examples at once."""
        for sizes, strides, views, gradient in stage.deferred:
            self._writer.product(sizes, strides, views, [], added=False, gradient=gradient)

    def _back(self, stage: Stage, node: int) -> None:
        if self._facts.active[node]:
            PATTERNS[Opcode(int(self._opcodes[node]))][1](stage, node)

    def _receive(self, stage: Stage) -> None:
        """Begin with what lanes gave, in what they share."""
        sums = self._buffers.all_sums()
        if stage.lanes or not sums:
            return
        integers: list[int] = []
        for root, begin, size in checked(sums, self._checkpoint):
            source = int(root in self._graph.graph.contents)
            integers += [begin, size, source, *stage.target(root).ref]
            stage.begun.add(root)
        self._writer.row(r.COMBINE, len(sums), *integers)

    def _look_at_gradients(self, stage: Stage, swarm: Swarm) -> None:
        everything = stage.opposite(stage.all_places())
        for begin, count in swarm.active_leaves():
            self._writer.look(everything._replace(place=begin), count, r.BAD_GRADIENT, lanes=stage.lanes)
        if stage.lanes:
            extra = everything._replace(buffer=Own.EXTRA)
            self._writer.look(extra, self._buffers.size(Own.EXTRA), r.BAD_GRADIENT, lanes=True)
        stored = []
        for root in checked(stage.begun, self._checkpoint):
            view = stage.parallel[root]
            if view.buffer > Own.LOSSES:
                self._writer.look(view, view.size, r.BAD_GRADIENT, lanes=stage.lanes and view.distance != 0)
            elif view.buffer == stage.gradients and view.place >= swarm.end and not self._looks.gradients[root]:
                stored.append(view)
        for view, count in ranges(stored):
            self._writer.look(view, count, r.BAD_GRADIENT, lanes=stage.lanes)

    # Code.

    def code(self, sections: tuple[Section, ...]) -> Code:
        """All that was written."""
        shared, lanes = self.shared[0], self.lanes[0]
        buffers, writer, graph = self._buffers, self._writer, self._graph
        return Code(
            rows=np.array(writer.rows or [0], np.int64),
            sections=sections,
            sums=tuple(buffers.all_sums()),
            sizes=Sizes(
                own={
                    Own.SHARED: shared.places,
                    Own.SHARED_GRADIENTS: shared.places,
                    Own.SHARED_PASSIVE: shared.passive,
                    Own.VALUES: lanes.places,
                    Own.GRADIENTS: lanes.places,
                    Own.PASSIVE: lanes.passive,
                    Own.EXTRA: buffers.size(Own.EXTRA),
                    Own.SUMS: buffers.size(Own.SUMS),
                },
                source_sums=sum(graph.size(node) for node in buffers.source_sums),
                kept={own.node: graph.size(own.node) for own in buffers.attached if own.role in KEPT},
                scratch=writer.scratch,
                wide=writer.wide,
                wide_of_lane=writer.wide_of_lane,
            ),
            modes=tuple(buffers.modes()),
            attached=tuple(buffers.attached),
            data=Data(
                constants=_joined(buffers.constants, np.float64),
                integers=_joined(buffers.integers, np.int64).view(np.int64),
                listed=tuple(writer.kept),
            ),
            deferrable=0 if self._question.separate else self._heavy.elements,
            has_products=bool(np.any(self._opcodes[self._facts.needed & self._facts.lanes] == Opcode.MATMUL)),
        )


def _joined(arrays: Iterable[Array], dtype: type) -> Array:
    joined: Array = np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False)
    return joined


def _with_elements(graph: Checked) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Opcodes and numbers of nodes, with scalars that are taken by a constant index, or reshaped, as elements."""
    own = graph.graph
    opcodes, numbers = own.opcodes.copy(), own.numbers.copy()
    scalars = graph.shape_ids == 0
    for node in np.flatnonzero(scalars & (opcodes == Opcode.TAKE)).tolist():
        table, index = own.operands_of(node)
        content = own.contents.get(index)
        if isinstance(content, np.ndarray):
            opcodes[node], numbers[node] = Opcode.ELEMENT, int(content) % graph.shape(table)[0]
    reshaped = np.flatnonzero(scalars & (opcodes == Opcode.RESHAPE))
    reshaped = reshaped[~scalars[own.operands[own.starts[reshaped]]]]
    opcodes[reshaped], numbers[reshaped] = Opcode.ELEMENT, 0
    return opcodes, numbers
