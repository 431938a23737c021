"""The nodes of a graph, most of which nobody ever looks at one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import overload

from gradwire_server.engine.graph import Node, Operation


class Nodes(Sequence[Node]):
    """Nodes in columns; of operations that have operands only a node is made when somebody asks for it.

    Args:
        ops: For each node its op, or nothing for sources.
        names: For each node.
        operands: Of all nodes, one after another.
        ends: For each node, where its operands end there.
        others: Nodes that are sources or have attributes, by index, in ascending order.
    """

    def __init__(
        self,
        ops: Sequence[str],
        names: Sequence[str],
        operands: Sequence[int],
        ends: Sequence[int],
        others: Mapping[int, Node],
    ) -> None:
        self.ops = ops
        self.names = names
        self.operands = operands
        self.ends = ends
        self.others = others

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Nodes:
        """Any nodes in this form."""
        if isinstance(nodes, cls):
            return nodes
        listed = [node.operands if isinstance(node, Operation) else () for node in nodes]
        return cls(
            ops=[node.op if isinstance(node, Operation) else "" for node in nodes],
            names=[node.name for node in nodes],
            operands=[operand for own in listed for operand in own],
            ends=list(accumulate(map(len, listed))),
            others={
                index: node for index, node in enumerate(nodes) if not isinstance(node, Operation) or node.attributes
            },
        )

    def sources(self) -> Iterator[tuple[int, Node]]:
        """The nodes that are no operations, with their indices."""
        return ((index, node) for index, node in self.others.items() if not isinstance(node, Operation))

    def operands_of(self, index: int) -> tuple[int, ...]:
        """The operands of a node."""
        return tuple(self.operands[self.ends[index - 1] if index else 0 : self.ends[index]])

    def __len__(self) -> int:
        return len(self.ops)

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Node, ...]: ...
    def __getitem__(self, index: int | slice) -> Node | tuple[Node, ...]:
        places = range(len(self))[index]
        return tuple(map(self._node, places)) if isinstance(places, range) else self._node(places)

    def __iter__(self) -> Iterator[Node]:
        return map(self._node, range(len(self)))

    def _node(self, index: int) -> Node:
        found = self.others.get(index)
        if found is not None:
            return found
        return Operation(name=self.names[index], op=self.ops[index], operands=self.operands_of(index))
