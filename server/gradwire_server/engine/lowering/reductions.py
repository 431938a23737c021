"""Rows of ops that add up, or compare, along axes."""

from __future__ import annotations

from gradwire_server.engine.graph.graph import Ties
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.elementwise import shared_out
from gradwire_server.engine.lowering.stage import Stage
from gradwire_server.engine.lowering.views import View


def _kept(stage: Stage, node: int, view: View) -> View:
    """A view of the result's shape with all axes of the operand, those that are reduced at size 1."""
    attributes = stage.checked.graph.attributes[node]
    return view if attributes["keepdims"] else view.expanded(attributes["axes"])


def total(stage: Stage, node: int) -> None:
    """The sum."""
    [a] = stage.operands(node)
    stage.reduce(Opcode.COPY, _kept(stage, node, stage.new(node)), a, shape=a.shape)


def total_back(stage: Stage, node: int) -> None:
    """The gradient to each element."""
    [operand] = stage.checked.graph.operands_of(node)
    shape = stage.checked.shape(operand)
    stage.back(operand, Opcode.COPY, _kept(stage, node, stage.gradient(node)), shape=shape)


def largest(stage: Stage, node: int) -> None:
    """The largest element."""
    [a] = stage.operands(node)
    stage.reduce(Opcode.COPY, _kept(stage, node, stage.new(node)), a, shape=a.shape, largest=True)


def largest_back(stage: Stage, node: int) -> None:
    """The gradient to elements that are as large as the largest, by how many they are."""
    [operand], [a] = stage.checked.graph.operands_of(node), stage.operands(node)
    g, out = _kept(stage, node, stage.gradient(node)), _kept(stage, node, stage.values[node])
    share = shared_out(stage, g, out, [a], split=stage.checked.graph.ties is Ties.SPLIT)
    stage.back(operand, Opcode.WINNER, share, a, out, shape=a.shape)


def log_total(stage: Stage, node: int) -> None:
    """The largest element, plus the logarithm of the sum of exponentials of what others are less than that."""
    [a] = stage.operands(node)
    out = _kept(stage, node, stage.new(node))
    most, terms = stage.temporary(out.shape), stage.temporary(out.shape)
    stage.reduce(Opcode.COPY, most, a, shape=a.shape, largest=True)
    stage.reduce(Opcode.SHIFTED_EXP, terms, a, most, shape=a.shape)
    stage.tensor(Opcode.LOG_TOTAL, out, most, terms, shape=out.shape)
    stage.notes[node] = [most, terms]


def log_total_back(stage: Stage, node: int) -> None:
    """The gradient times the softmax: exponentials of what elements are less than the largest, by their sum."""
    [operand], [a] = stage.checked.graph.operands_of(node), stage.operands(node)
    g, (most, terms) = _kept(stage, node, stage.gradient(node)), stage.notes[node]
    share = stage.temporary(g.shape)
    stage.tensor(Opcode.SHARE_SPLIT, share, g, terms, shape=g.shape)
    stage.back(operand, Opcode.SOFTMAX, share, a, most, shape=a.shape)


def cumulate(stage: Stage, node: int) -> None:
    """Sums of the elements up to each."""
    [a] = stage.operands(node)
    axis = stage.checked.graph.attributes[node]["axis"]
    stage.writer.scan(stage.new(node), stage.gathered(a), axis, lanes=stage.lanes, backward=False)


def cumulate_back(stage: Stage, node: int) -> None:
    """Sums of the gradients from each on."""
    [operand], g = stage.checked.graph.operands_of(node), stage.gradient(node)
    own = stage.temporary(g.shape)
    stage.writer.scan(own, g, stage.checked.graph.attributes[node]["axis"], lanes=stage.lanes, backward=True)
    stage.back(operand, Opcode.COPY, own, shape=g.shape)


PATTERNS = {
    Opcode.SUM: (total, total_back),
    Opcode.REDUCE_MAX: (largest, largest_back),
    Opcode.LOGSUMEXP: (log_total, log_total_back),
    Opcode.CUMSUM: (cumulate, cumulate_back),
}
"""Forward and backward rows by opcode."""
