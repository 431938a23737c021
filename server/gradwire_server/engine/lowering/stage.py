"""A stage: nodes that are computed together, for all examples or for the lanes of a tile, and where they live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Shape
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.buffers import Buffers, Own, Role
from gradwire_server.engine.lowering.question import Facts
from gradwire_server.engine.lowering.values import Values
from gradwire_server.engine.lowering.views import View, contiguous_strides
from gradwire_server.engine.lowering.writer import Writer


class Stage:
    """One stage of a lowering.

    Args:
        checked: The graph.
        facts: What the question makes of it.
        buffers: All buffers; the two stages share them.
        writer: Where rows go; the two stages share it.
        values: Views of nodes that are there, by node; the two stages share them.
        lanes: Whether examples have values of their own here.
    """

    def __init__(
        self, checked: Checked, facts: Facts, buffers: Buffers, writer: Writer, values: Values, *, lanes: bool
    ) -> None:
        self.checked, self.facts, self.buffers, self.writer = checked, facts, buffers, writer
        self.values = values
        self.lanes = lanes
        """Whether values and gradients of the stage, or gradients alone, are those of lanes."""
        self.own, self.gradients = (Own.VALUES, Own.GRADIENTS) if lanes else (Own.SHARED, Own.SHARED_GRADIENTS)
        """The buffer of values that may have gradients, and that of gradients, which have the same places."""
        self.weights: dict[int, int] = {}
        """Products whose weight's gradient is deferred, with the operand that the weight is."""
        self.deferred: list[Any] = []
        """Products that are done when all tiles are: sizes, strides, views, and which factor is a gradient."""
        self.kept: set[int] = set()
        """Nodes whose values are kept for that."""
        self.stored: list[int] = []
        """Nodes that have storage of their own for their values, but for those in swarms."""
        self.separate = False
        """Whether each lane has gradients of its own in what all share."""
        self.places = 0
        """Elements of a lane in that buffer, so far."""
        self.passive = 0
        """Elements of a lane in the buffer of values that have no gradients, and of what steps keep for themselves."""
        self.notes: dict[int, list[View]] = {}
        """What the forward step of a node leaves to its backward step."""
        self.parallel: dict[int, View] = {}
        """Views of gradients of nodes' storage, by node."""
        self.begun: set[int] = set()
        """Nodes whose storage of gradients holds something."""
        self.scalar_places = np.full(len(checked), -1, np.int64)
        """[nodes], places in the buffer of own values of scalars that operations of a swarm, or stacks, read."""

    # Values.

    def operands(self, node: int) -> list[View]:
        """Views of a node's operands."""
        return [self.values[operand] for operand in self.checked.graph.operands_of(node)]

    def new(self, node: int) -> View:
        """Storage for the value of a node."""
        shape = self.checked.shape(node)
        if self.scalar_places[node] >= 0:
            view = self._view(self.own, int(self.scalar_places[node]), shape, node)
            self.values[node] = view
            return view
        self.stored.append(node)
        if node in self.kept:
            view = self.buffers.attach(Role.KEPT, node, examples=True)
        elif self.facts.active[node]:
            view = self._view(self.own, self.places, shape, node)
            self.places += view.size
        else:
            view = self.temporary(shape)._replace(root=node)
        self.values[node] = view
        return view

    def temporary(self, shape: Shape) -> View:
        """Storage that has no gradient."""
        view = self._view(Own.PASSIVE if self.lanes else Own.SHARED_PASSIVE, self.passive, shape, -1)
        self.passive += view.size
        return view

    def _view(self, buffer: int, place: int, shape: Shape, root: int) -> View:
        strides = contiguous_strides(shape)
        size = View(buffer, place, 0, shape, strides).size
        return View(buffer, place, size if self.lanes else 0, shape, strides, 0, root)

    def constant_rows(self, node: int, rows: int) -> tuple[int, int] | None:
        """The first row, and the step to the next, that row indices mean in every request; None if there is none."""
        content = self.checked.graph.contents.get(node)
        if not isinstance(content, np.ndarray) or content.ndim > 1 or content.size == 0:
            return None
        indices = content.reshape(-1) % rows
        step = int(indices[1] - indices[0]) if len(indices) > 1 else 1
        return (int(indices[0]), step) if step > 0 and np.all(np.diff(indices) == step) else None

    def all_places(self) -> View:
        """The buffer of the stage's own values, from its first place on."""
        return View(self.own, 0, int(self.lanes), (), ())

    def places_of(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """Places of scalars that a swarm has, or reads."""
        own: NDArray[np.int64] = self.scalar_places[nodes]
        return own

    def gathered(self, view: View) -> View:
        """The view, or a copy of it whose elements stand one after another."""
        if view.contiguous:
            return view
        copy = self.temporary(view.shape)
        self.tensor(Opcode.COPY, copy, view, shape=view.shape)
        return copy

    # Gradients.

    def opposite(self, view: View) -> View:
        """The gradient of storage that the stage has itself, at the same place."""
        return view._replace(buffer=self.gradients)

    def wants(self, node: int) -> bool:
        """Whether a node gets a gradient."""
        return bool(self.facts.active[node])

    def gradient(self, node: int) -> View:
        """The gradient of a node, zero if nothing was added to it."""
        root = self._root(node)
        if not self._has_begun(root):
            self._zero(root)
        return self._gradient(node)

    def target(self, node: int) -> View:
        """Where the gradient of a node is, or will be."""
        self._root(node)
        return self._gradient(node)

    def owns(self, node: int) -> bool:
        """Whether a node has storage of its own, and is no view."""
        return self.values[node].root == node

    def add_to(self, node: int, shape: Shape, *, summed: bool) -> tuple[View, bool]:
        """Where a contribution of this shape goes, and whether it is stored there: it is the first, and covers all.

        With ``summed`` a step adds several numbers to one element.
        """
        root, view = self._root(node), self._gradient(node)
        if self._has_begun(root):
            return view, False
        storage = self.parallel[root]
        if not summed and view.size == storage.size and view.contiguous and view.shape == shape:
            self.begun.add(root)
            return view, True
        self._zero(root)
        return view, False

    def _has_begun(self, root: int) -> bool:
        # Places of scalars are zeroed all at once.
        return root in self.begun or (self.scalar_places[root] >= 0 and self.parallel[root].buffer == self.gradients)

    def _root(self, node: int) -> int:
        root = self.values[node].root
        if root not in self.parallel:
            self.parallel[root] = self._storage(root)
        return root

    def _storage(self, root: int) -> View:
        """Where the gradient of a node's storage is."""
        value = self.values[root]
        if root in self.weights:
            return self.buffers.attach(Role.KEPT_GRADIENT, root, examples=True)
        if value.buffer == self.own:
            return self.opposite(value)
        source = root in self.checked.graph.contents
        if not self.lanes:
            return self.buffers.attach(Role.GRADIENT, root, examples=False)
        if value.distance == 0 and not self.separate:
            return self.buffers.sum(root)
        return self.buffers.attach(Role.GRADIENT, root, examples=True) if source else self.buffers.apart(root)

    def _gradient(self, node: int) -> View:
        view, storage = self.values[node], self.parallel[self._root(node)]
        return storage._replace(shape=view.shape, strides=view.strides, offset=storage.offset + view.offset)

    def hand_over(self, g: View, node: int) -> None:
        """Give a gradient that nobody else reads any more to a node, in whose stead it is added to from then on."""
        own, target = self.owns(node) and node not in self.weights, self.target(node)
        fits = target.buffer == g.buffer == self.gradients and target.shape == g.shape and g.contiguous
        if own and fits and not self._has_begun(node) and self.scalar_places[node] < 0:
            self.parallel[node] = g
            self.begun.add(node)
        else:
            self.back(node, Opcode.COPY, g, shape=g.shape)

    def _zero(self, root: int) -> None:
        view = self.parallel[root]
        self.writer.fill(view, view.size, 0.0, lanes=self.lanes and view.distance != 0)
        self.begun.add(root)

    # Steps.

    def tensor(
        self, opcode: int, out: View, *operands: View, shape: Shape, combine: int = r.STORED, number: float = 0.0
    ) -> None:
        """An elementwise step; see the writer's."""
        self.writer.tensor(opcode, out, *operands, shape=shape, lanes=self.lanes, combine=combine, number=number)

    def reduce(
        self, opcode: int, out: View, *operands: View, shape: Shape, number: float = 0.0, largest: bool = False
    ) -> None:
        """An elementwise step whose results are added up, or of which the largest are kept."""
        start = float("-inf") if largest else 0.0
        self.writer.fill(out, out.size, start, lanes=self.lanes)
        self.tensor(opcode, out, *operands, shape=shape, combine=r.LARGEST if largest else r.ADDED, number=number)

    def count(self, opcode: int, out: View, *operands: View, shape: Shape) -> None:
        """A step whose results are added to what is there."""
        self.tensor(opcode, out, *operands, shape=shape, combine=r.ADDED)

    def back(self, node: int, opcode: int, *operands: View, shape: Shape, number: float = 0.0) -> None:
        """What goes back to a node by an elementwise step on tensors of this shape; the first operand is a gradient."""
        target, first = self.add_to(node, shape, summed=self.lanes and self.target(node).distance == 0)
        self.tensor(opcode, target, *operands, shape=shape, combine=r.STORED if first else r.ADDED, number=number)

    def alias(self, node: int, view: View) -> None:
        """Let a node be a view of another one."""
        self.values[node] = view
