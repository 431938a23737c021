"""What the reference makes of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gradwire_server.engine.graph.checking import Checked, check_graph
from gradwire_server.engine.graph.graph import Ties
from gradwire_server.engine.reference.interpreter import Numbers, backward, forward, needed
from tests.unit.engine.building import LIMITS, Builder


class Answer(NamedTuple):
    """What the reference makes of one example."""

    loss: Any
    gradients: dict[str, Any]
    """In every source of floats, by name."""
    values: Numbers


def checked(builder: Builder, loss: int = -1, ties: Ties = Ties.ZERO) -> Checked:
    return check_graph(builder.graph(loss, ties), LIMITS)


def arrays_of(program: Checked, arrays: Mapping[str, Any], dtype: type = np.float64) -> dict[str, Any]:
    """The arrays as requests have them."""
    integer = {source.name for source in program.sources if source.integer}
    return {name: np.asarray(value, np.int64 if name in integer else dtype) for name, value in arrays.items()}


def interpreted(program: Checked, arrays: Mapping[str, Any], dtype: type = np.float64) -> Answer:
    """The reference's answer for one example."""
    floats = [source for source in program.sources if not source.integer]
    everything = needed(program, range(len(program)))
    values = forward(program, arrays_of(program, arrays, dtype), np.dtype(dtype), everything)
    wanted = program.active([source.node for source in floats])
    found = backward(program, values, wanted)
    gradients = {s.name: found[s.node] if wanted[s.node] else np.zeros(s.shape) for s in floats}
    return Answer(values[program.graph.loss], gradients, values)
