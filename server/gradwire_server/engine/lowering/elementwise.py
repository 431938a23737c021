"""Rows of elementwise ops on tensors; scalars run in swarms."""

from __future__ import annotations

from collections.abc import Callable

from gradwire_server.engine.graph.graph import Shape, Ties
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.stage import Stage
from gradwire_server.engine.lowering.views import View

BACK = Opcode.BACK


def add(stage: Stage, node: int) -> None:
    """The operands in turn."""
    first, *others = stage.operands(node)
    if not others:
        stage.alias(node, first)
        return
    out = stage.new(node)
    stage.tensor(Opcode.ADD, out, first, others[0], shape=out.shape)
    for operand in others[1:]:
        stage.count(Opcode.COPY, out, operand, shape=out.shape)


def add_back(stage: Stage, node: int) -> None:
    """The gradient itself, to each operand; of one operand it is there."""
    if not stage.owns(node):
        return
    g = stage.gradient(node)
    *others, last = [operand for operand in stage.checked.graph.operands_of(node) if stage.wants(operand)]
    for operand in others:
        stage.back(operand, Opcode.COPY, g, shape=g.shape)
    stage.hand_over(g, last)


def mul(stage: Stage, node: int) -> None:
    """The operands in turn; the product so far is kept before each but the last."""
    first, *others = stage.operands(node)
    if not others:
        stage.alias(node, first)
        return
    shape = stage.checked.shape(node)
    before = stage.notes[node] = [first]
    for operand in others[:-1]:
        before.append(_times(stage, before[-1], operand, shape))
    stage.tensor(Opcode.MUL, stage.new(node), before[-1], others[-1], shape=shape)


def mul_back(stage: Stage, node: int) -> None:
    """The gradient times the product of all other operands: of those before, times of those behind."""
    if not stage.owns(node):
        return
    g, views, before = stage.gradient(node), stage.operands(node), stage.notes[node]
    operands, last = stage.checked.graph.operands_of(node), len(views) - 1
    others, behind = before[-1], views[last]
    for slot in range(last, -1, -1):
        if slot < last:
            others = behind if slot == 0 else _times(stage, before[slot - 1], behind, g.shape)
        if stage.wants(operands[slot]):
            stage.back(operands[slot], BACK + Opcode.MUL, g, others, shape=g.shape)
        if 0 < slot < last:
            behind = _times(stage, behind, views[slot], g.shape)


def _times(stage: Stage, first: View, second: View, shape: Shape) -> View:
    product = stage.temporary(shape)
    stage.tensor(Opcode.MUL, product, first, second, shape=shape)
    return product


def largest(stage: Stage, node: int) -> None:
    """The largest so far, with each operand in turn."""
    first, *others = stage.operands(node)
    if not others:
        stage.alias(node, first)
        return
    out = stage.new(node)
    for operand in others:
        stage.tensor(Opcode.MAX, out, first, operand, shape=out.shape)
        first = out


def largest_back(stage: Stage, node: int) -> None:
    """The gradient to the larger of two; of more, to those that are as large as the largest, by how many they are."""
    if not stage.owns(node):
        return
    g, out, views = stage.gradient(node), stage.values[node], stage.operands(node)
    operands = stage.checked.graph.operands_of(node)
    split = stage.checked.graph.ties is Ties.SPLIT
    if len(operands) == 2:
        opcode = BACK + (Opcode.MAX_SPLIT if split else Opcode.MAX)
        for operand, own, other in zip(operands, views, reversed(views), strict=True):
            if stage.wants(operand):
                stage.back(operand, opcode, g, own, other, shape=g.shape)
        return
    share = shared_out(stage, g, out, [view.broadcast(g.shape) for view in views], split=split)
    for operand, own in zip(operands, views, strict=True):
        if stage.wants(operand):
            stage.back(operand, Opcode.WINNER, share, own, out, shape=g.shape)


def shared_out(stage: Stage, g: View, out: View, candidates: list[View], *, split: bool) -> View:
    """What each candidate that is as large as ``out`` gets of the gradient."""
    ties = stage.temporary(g.shape)
    stage.reduce(Opcode.EQUAL, ties, candidates[0], out, shape=candidates[0].shape)
    for view in candidates[1:]:
        stage.count(Opcode.EQUAL, ties, view, out, shape=view.shape)
    stage.tensor(Opcode.SHARE_SPLIT if split else Opcode.SHARE, ties, g, ties, shape=g.shape)
    return ties


def _function(opcode: Opcode) -> Callable[[Stage, int], None]:
    def forward(stage: Stage, node: int) -> None:
        [a] = stage.operands(node)
        stage.tensor(opcode, stage.new(node), a, shape=a.shape)

    return forward


def _function_back(opcode: Opcode, *, of_value: bool) -> Callable[[Stage, int], None]:
    def backward(stage: Stage, node: int) -> None:
        [operand] = stage.checked.graph.operands_of(node)
        known = stage.values[node if of_value else operand]
        stage.back(operand, BACK + opcode, stage.gradient(node), known, shape=known.shape)

    return backward


def _comparison(opcode: Opcode) -> Callable[[Stage, int], None]:
    def forward(stage: Stage, node: int) -> None:
        a, b = stage.operands(node)
        stage.tensor(opcode, stage.new(node), a, b, shape=stage.checked.shape(node))

    return forward


def nothing_back(stage: Stage, node: int) -> None:
    """No gradient, whatever the operands are."""


def select(stage: Stage, node: int) -> None:
    """Elements of the second operand where the first is not 0, of the third elsewhere."""
    stage.tensor(Opcode.SELECT, stage.new(node), *stage.operands(node), shape=stage.checked.shape(node))


def select_back(stage: Stage, node: int) -> None:
    """The gradient where an operand was selected, 0 elsewhere."""
    _, first, second = stage.checked.graph.operands_of(node)
    g, c, zero = stage.gradient(node), stage.operands(node)[0], stage.buffers.number(0.0)
    for operand, choices in ((first, (g, zero)), (second, (zero, g))):
        if stage.wants(operand):
            stage.back(operand, Opcode.SELECT, c, *choices, shape=g.shape)


SPECIAL = {2.0: Opcode.SQUARE, -1.0: Opcode.RECIPROCAL}
"""Exponents that have an opcode of their own."""


def power(stage: Stage, node: int) -> None:
    """The power, by its exponent."""
    [a] = stage.operands(node)
    exponent = float(stage.checked.graph.numbers[node])
    stage.tensor(SPECIAL.get(exponent, Opcode.POWER), stage.new(node), a, shape=a.shape, number=exponent)


def power_back(stage: Stage, node: int) -> None:
    """Nothing for the exponent 0, whose derivative is 0 whatever is multiplied."""
    [operand] = stage.checked.graph.operands_of(node)
    exponent = float(stage.checked.graph.numbers[node])
    if exponent == 0:
        return
    opcode = SPECIAL.get(exponent, Opcode.POWER)
    known = stage.values[node if opcode == Opcode.RECIPROCAL else operand]
    stage.back(operand, BACK + opcode, stage.gradient(node), known, shape=known.shape, number=exponent)


PATTERNS = {
    Opcode.ADD: (add, add_back),
    Opcode.MUL: (mul, mul_back),
    Opcode.MAX: (largest, largest_back),
    Opcode.SIGMOID: (_function(Opcode.SIGMOID), _function_back(Opcode.SIGMOID, of_value=True)),
    Opcode.EXP: (_function(Opcode.EXP), _function_back(Opcode.EXP, of_value=True)),
    Opcode.LOG: (_function(Opcode.LOG), _function_back(Opcode.LOG, of_value=False)),
    Opcode.TANH: (_function(Opcode.TANH), _function_back(Opcode.TANH, of_value=True)),
    Opcode.SOFTPLUS: (_function(Opcode.SOFTPLUS), _function_back(Opcode.SOFTPLUS, of_value=False)),
    Opcode.POWER: (power, power_back),
    Opcode.SIN: (_function(Opcode.SIN), _function_back(Opcode.SIN, of_value=False)),
    Opcode.COS: (_function(Opcode.COS), _function_back(Opcode.COS, of_value=False)),
    Opcode.LOG1P: (_function(Opcode.LOG1P), _function_back(Opcode.LOG1P, of_value=False)),
    Opcode.EXPM1: (_function(Opcode.EXPM1), _function_back(Opcode.EXPM1, of_value=False)),
    Opcode.ERF: (_function(Opcode.ERF), _function_back(Opcode.ERF, of_value=False)),
    Opcode.LESS: (_comparison(Opcode.LESS), nothing_back),
    Opcode.EQUAL: (_comparison(Opcode.EQUAL), nothing_back),
    Opcode.SELECT: (select, select_back),
}
"""Forward and backward rows by opcode."""
