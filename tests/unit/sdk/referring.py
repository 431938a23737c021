"""What the engine's reference makes of expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import gradwire as gw
from gradwire._graphs.graph import build_graph
from gradwire_server.codec.graphs import decode_graph
from gradwire_server.engine.graph.checking import check_graph
from gradwire_server.engine.graph.graph import Input, Parameter
from gradwire_server.engine.reference.interpreter import backward, forward, needed
from gradwire_server.limits import Limits


class Answer(NamedTuple):
    """Of one example."""

    values: list[Any]
    """Of the expressions."""
    gradients: dict[str, Any]
    """Of the first one, a scalar, by parameter."""


def referred(expressions: Sequence[gw.Expression], arrays: Mapping[str, Any], ties: str = "zero") -> Answer:
    """The values of some expressions, and the gradients of the first one."""
    outputs = {f"output {i}": node if not node.name else node + 0 for i, node in enumerate(expressions)}
    message = build_graph(expressions[0], ties, outputs, packed=False)
    program = check_graph(decode_graph(message, Limits()), Limits())
    places = {node.name: i for i, node in enumerate(message.nodes)}
    nodes = [places[name] for name in outputs]
    contents = program.graph.contents
    sources = {own.name: own for own in contents.values() if isinstance(own, Parameter | Input)}
    given = {
        name: np.asarray(arrays[name], np.int64 if isinstance(own, Input) and own.integer else np.float64)
        for name, own in sources.items()
    }
    values = forward(program, given, np.dtype(np.float64), needed(program, [*nodes, program.graph.loss]))
    wrt = {own.name: node for node, own in contents.items() if isinstance(own, Parameter)}
    wanted = program.active(wrt.values())
    found = backward(program, values, wanted)
    gradients = {
        name: np.array(found[node]) if wanted[node] else np.zeros(program.shape(node)) for name, node in wrt.items()
    }
    return Answer([np.array(values[node]) for node in nodes], gradients)
