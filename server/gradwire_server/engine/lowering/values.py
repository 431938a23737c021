"""Where the value of each node is; of scalars, most of which nobody asks for, a view is made when one is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.buffers import Buffers, Own
from gradwire_server.engine.lowering.question import Facts
from gradwire_server.engine.lowering.views import View


class Values:
    """Views of nodes."""

    def __init__(self, checked: Checked, facts: Facts, buffers: Buffers) -> None:
        self._graph, self._facts, self._buffers = checked.graph, facts, buffers
        self._opcodes, self._numbers = checked.graph.opcodes, checked.graph.numbers
        self._views: dict[int, View] = {}
        self.places = np.full(len(checked), -1, np.int64)
        """[nodes], places of scalar operations."""

    def see(self, opcodes: NDArray[np.int8], numbers: NDArray[np.float64]) -> None:
        """Take these for what nodes are: more of them are elements than were sent as such."""
        self._opcodes, self._numbers = opcodes, numbers

    def __setitem__(self, node: int, view: View) -> None:
        self._views[node] = view

    def __getitem__(self, node: int) -> View:
        view = self._views.get(node)
        if view is None:
            view = self._views[node] = self._make(node)
        return view

    def _make(self, node: int) -> View:
        graph = self._graph
        if self._facts.scalar[node]:
            lanes = bool(self._facts.lanes[node])
            return View(Own.VALUES if lanes else Own.SHARED, int(self.places[node]), int(lanes), (), (), 0, node)
        if self._opcodes[node] == Opcode.ELEMENT:
            return self[graph.operands_of(node)[0]].element(int(self._numbers[node]))
        return self._buffers.content(node)
