"""From a graph as it was sent to one that may run: every rule checked, every shape worked out, once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.graph import shapes
from gradwire_server.engine.graph.canonical import canonical
from gradwire_server.engine.graph.graph import Graph, Input, Parameter, Shape
from gradwire_server.engine.graph.identity import graph_id
from gradwire_server.engine.graph.inference import infer
from gradwire_server.engine.graph.ops import PASSIVE_OPERANDS
from gradwire_server.engine.graph.traversal import ancestors, descendants, differentiated, receiving
from gradwire_server.errors import shown
from gradwire_server.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A tensor that requests supply."""

    name: str
    node: int
    parameter: bool
    """If false, it is an input."""
    shape: Shape
    """Shape for one example."""
    per_example: bool
    integer: bool
    unused: bool
    """Whether the loss does not depend on it."""

    def __str__(self) -> str:
        return f"{'parameter' if self.parameter else 'input'} {shown(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A graph that may run."""

    graph: Graph
    """With attributes in normal form. SUM, REDUCE_MAX, LOGSUMEXP: ``axes`` (ascending, not negative, all axes if none
    were sent) and ``keepdims``; RESHAPE: ``shape``; TRANSPOSE: ``axes``; CUMSUM, CONCATENATE: ``axis``; SCATTER_ADD:
    ``axis`` and ``size``; SLICE: ``starts``, ``sizes`` and ``steps`` for each axis; TAKE: ``axis``, unless it is 0."""
    shape_ids: NDArray[np.int32]
    """[nodes], index into ``shape_table`` of each node's shape for one example."""
    shape_table: tuple[Shape, ...]
    """Distinct shapes; the first is ()."""
    per_example: NDArray[np.bool_]
    """[nodes], whether each node depends on examples."""
    forward: NDArray[np.int32]
    """[nodes], the node that has the value of each, and its gradient: of an element of stacked scalars that scalar."""
    graph_id: str
    """SHA-256 of the canonical form, 64 hexadecimal digits."""
    sources: tuple[Source, ...]
    """What requests supply, in the order of nodes."""

    def __len__(self) -> int:
        return len(self.graph)

    def active(self, sources: Iterable[int]) -> NDArray[np.bool_]:
        """[nodes], whether the gradient of the loss in one of some sources goes through each."""
        own, (passing, reached) = self.graph, np.zeros((2, len(self)), np.bool_)
        passing[list(sources)] = True
        differentiated(own.opcodes, own.starts, own.operands, self.forward, PASSIVE_OPERANDS, passing)
        reached[own.loss] = True
        receiving(own.opcodes, own.starts, own.operands, PASSIVE_OPERANDS, reached)
        active: NDArray[np.bool_] = passing & reached
        return active

    def shape(self, index: int) -> Shape:
        """Shape of a node for one example."""
        return self.shape_table[self.shape_ids[index]]

    def size(self, index: int) -> int:
        """Elements of a node for one example."""
        return shapes.size(self.shape(index))

    @property
    def batched(self) -> bool:
        """Whether requests bring examples."""
        return any(source.per_example for source in self.sources)

    @property
    def parameters(self) -> tuple[Source, ...]:
        """Sources that are differentiated unless a request says otherwise."""
        return tuple(source for source in self.sources if source.parameter)


def check_graph(graph: Graph, limits: Limits, checkpoint: Checkpoint = unhurried) -> Checked:
    """Check a graph; ``checkpoint`` is called now and then and may raise.

    Raises:
        Refusal: with every finding (INVALID_GRAPH, LIMIT_EXCEEDED). Paths start at the graph and hold indices as they
            were sent: ``nodes[17].mul.operands[1]``. Whatever ``checkpoint`` raises.
    """
    inferred = infer(graph, limits, checkpoint)
    graph = replace(graph, attributes=inferred.attributes)
    form = canonical(graph, inferred.shape_ids, inferred.shape_table, checkpoint)
    identity = graph_id(graph, form, checkpoint)
    per_example, needed = np.zeros((2, len(graph)), np.bool_)
    needed[graph.loss] = True
    ancestors(graph.starts, graph.operands, needed)
    sources: list[Source] = []
    for node, content in checked(graph.contents.items(), checkpoint):
        if isinstance(content, Parameter | Input):
            source = Source(
                name=content.name,
                node=node,
                parameter=isinstance(content, Parameter),
                shape=content.shape,
                per_example=isinstance(content, Input) and content.per_example,
                integer=isinstance(content, Input) and content.integer,
                unused=not needed[node],
            )
            per_example[node] = source.per_example
            sources.append(source)
    descendants(graph.starts, graph.operands, per_example)
    checkpoint()
    return Checked(
        graph=graph,
        shape_ids=inferred.shape_ids,
        shape_table=inferred.shape_table,
        per_example=per_example,
        forward=form.forward,
        graph_id=identity,
        sources=tuple(sources),
    )
