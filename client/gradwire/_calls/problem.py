"""A graph with what its sources and outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradwire._arrays import AS_NUMBERS, Array, is_text
from gradwire._calls.graphs import Graphs, Known
from gradwire._calls.replies import Replies
from gradwire._errors import InvalidGraphError, InvalidRequestError
from gradwire._expressions.expression import Expression
from gradwire._graphs.graph import Outputs, build_graph, output_names
from gradwire.v1 import graph_pb2, tensor_pb2


@dataclass(slots=True)
class Problem:
    """A graph, and what its sources and outputs are."""

    graph: graph_pb2.Graph
    known: Known
    outputs: dict[str, int]
    """Indices of the nodes to return, by name."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    integers: set[str] = field(default_factory=set)
    numbers: dict[str, str] = field(default_factory=dict)
    """Inputs of floats that calls feed from an array of integers, with its name."""
    per_example: set[str] = field(default_factory=set)
    parameters: list[str] = field(default_factory=list)
    asked: dict[np.dtype[Any], bytes] = field(default_factory=dict)
    """What requests have beside the graph and tensors, serialized, by dtype."""
    shared_elements: int = 0
    """Elements of gradients that all examples share, of a reply."""
    separate_elements: int = 0
    """Elements of gradients of each example, of a reply."""
    replies: Replies = field(default_factory=Replies)
    wrt: tuple[str, ...] | None = None
    """Names of the sources to differentiate in; None for all parameters."""
    shaped: Callable[[dict[str, Array]], Any] | None = None
    """What a caller gets for the gradients by name; None for these as they are."""
    aux: Callable[[dict[str, Array]], Any] | None = None
    """What a caller gets for the outputs by name; None for these as they are."""

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            kind = node.WhichOneof("kind")
            if kind == "parameter":
                self.parameters.append(node.name)
                self.shapes[node.name] = tuple(node.parameter.shape)
            elif kind == "input":
                self.shapes[node.name] = tuple(node.input.shape)
                if node.input.dtype == tensor_pb2.DTYPE_INT64:
                    self.integers.add(node.name)
                elif node.name.endswith(AS_NUMBERS):
                    self.numbers[node.name] = node.name.removesuffix(AS_NUMBERS)
                if node.input.per_example:
                    self.per_example.add(node.name)

    @property
    def examples(self) -> set[str]:
        """Names of the arrays that have an axis of examples, of which one may feed two inputs."""
        return {self.numbers.get(name, name) for name in self.per_example}

    def fed(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arrays of a call, with those of integers under both names where the graph has them as numbers too."""
        given = {name: source for name, source in self.numbers.items() if name not in values and source in values}
        if not given:
            return values
        alone = [source for source in given.values() if source not in self.shapes]
        kept = {name: value for name, value in values.items() if name not in alone}
        return kept | {name: values[source] for name, source in given.items()}

    def nested(
        self, gradients: dict[str, Array], outputs: dict[str, Array]
    ) -> tuple[Any, Any, dict[str, Array] | None]:
        """Gradients and outputs nested as the caller has them, and the gradients by name if they are."""
        return (
            gradients if self.shaped is None else self.shaped(gradients),
            outputs if self.aux is None else self.aux(outputs),
            None if self.shaped is None else gradients,
        )


def problem_of(
    loss: Expression | graph_pb2.Graph,
    ties: str,
    outputs: Outputs,
    sources: Iterable[Expression] = (),
    *,
    graphs: Graphs | None = None,
    packed: bool = True,
) -> Problem:
    """The problem of an expression, or of a graph, whose outputs are given by name.

    Args:
        loss: What to compute.
        ties: As for ``gw.graph``; a graph has its own.
        outputs: What to return too.
        sources: To keep in the graph, also where the loss does not need them.
        graphs: Those of the client, if it computes with it.
        packed: Whether operations on scalars may be packed.

    Raises:
        InvalidGraphError: See ``gw.graph``; or a graph has no node of an output's name.
    """
    if isinstance(loss, graph_pb2.Graph):
        message = loss
        names = [] if outputs is None else names_of(outputs)
    else:
        named = output_names(outputs)
        message = build_graph(loss, ties, named, sources, packed=packed)
        names = list(named)
    places = {node.name: index for index, node in enumerate(message.nodes) if node.name}
    for name in names:
        if name not in places:
            raise InvalidGraphError(f'output "{name}": the graph has no node of this name', node=name)
    return Problem(message, (graphs or Graphs()).known(message), {name: places[name] for name in names})


def names_of(names: object) -> list[str]:
    """A name, or several, as a list.

    Raises:
        InvalidRequestError: They are no names.
    """
    try:
        listed: list[Any] = [names] if isinstance(names, str) else list(names)  # type: ignore[call-overload]  # see below
    except TypeError:
        listed = [names]
    odd = [name for name in listed if not is_text(name)]
    if odd:
        raise InvalidRequestError(f"names are strings; found {odd[0]!r:.64}; give text that UTF-8 can hold")
    return listed
