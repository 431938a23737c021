"""What requests are checked against: sources by name, and how nodes were numbered when they were sent."""

from __future__ import annotations

from functools import cached_property

from gradwire_server.engine.graph import shapes
from gradwire_server.engine.graph.checking import Checked


class Facts:
    """A checked graph as requests see it."""

    def __init__(self, checked: Checked) -> None:
        self.checked = checked
        self.sources = checked.sources
        """What requests supply, in the order of nodes."""
        self.by_name = {source.name: source for source in checked.sources}
        self.parameters = checked.parameters
        self.batched = checked.batched
        """Whether requests bring examples."""
        origins = checked.graph.origins
        self.sent = len(checked) if origins is None else len(origins.nodes)
        """How many nodes were sent."""

    def received(self, sent: int) -> int:
        """The node that has the value of a sent one."""
        origins = self.checked.graph.origins
        return sent if origins is None else int(origins.nodes[sent])

    @cached_property
    def widest_empty(self) -> int:
        """Product of the non-zero axes of the empty tensor that takes the most to address; 0 if none is empty."""
        return max((shapes.addressed(shape) for shape in self.checked.shape_table if 0 in shape), default=0)
