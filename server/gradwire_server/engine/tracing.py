"""One example in full: every node's value, and the gradient on every edge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradwire_server.engine import nonfinite
from gradwire_server.engine.diagnosis import bad_step
from gradwire_server.engine.executor import UNSET, Adjoints, Checkpoint, Values, backward, forward
from gradwire_server.engine.graph import Array, Graph, Input, Operation
from gradwire_server.engine.job import Query, bind
from gradwire_server.engine.limits import Limits
from gradwire_server.engine.nonfinite import NonFinite
from gradwire_server.engine.plan import Instruction
from gradwire_server.engine.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTrace:
    """What one consumer adds to the gradient of its operand ``node``; None for row indices."""

    node: int
    gradient: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTrace:
    """What happened at a node; ``gradient`` is None for row indices."""

    name: str
    op: str
    value: Array
    gradient: Array | None
    operands: tuple[EdgeTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Every node of the graph, in its order."""

    nodes: tuple[NodeTrace, ...]
    non_finite: NonFinite | None
