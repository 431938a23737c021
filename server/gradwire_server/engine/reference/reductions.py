"""Ops that add up, or compare, along axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_server.engine.graph.graph import Array, Ties
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.rule import Facts, Rule, stop, total


def _expanded(facts: Facts, reduced: Array) -> Array:
    """The result with the reduced axes back, at size 1."""
    return reduced if facts.attributes["keepdims"] else np.expand_dims(reduced, facts.attributes["axes"])


def _squeezed(facts: Facts, kept: Array) -> Array:
    """The result from one in which the reduced axes stayed, at size 1."""
    return kept if facts.attributes["keepdims"] else np.squeeze(kept, facts.attributes["axes"])


def _largest(facts: Facts, a: Array) -> Array:
    largest: Array = np.maximum.reduce(a, axis=facts.attributes["axes"], keepdims=True)
    return largest


def _sum(facts: Facts, operands: Sequence[Array]) -> Array:
    return _squeezed(facts, total(operands[0], facts.attributes["axes"]))


def _sum_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    return [np.broadcast_to(_expanded(facts, g), operands[0].shape)]


def _reduce_max(facts: Facts, operands: Sequence[Array]) -> Array:
    return _squeezed(facts, _largest(facts, operands[0]))


def _reduce_max_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    # As for max: losers get exactly 0 by selection, and where NaN wins, nobody equals it.
    g, winners = _expanded(facts, g), operands[0] == _expanded(facts, out)
    tied = total(winners.astype(g.dtype), facts.attributes["axes"])
    share = g / np.maximum(tied, 1) if facts.ties is Ties.SPLIT else np.where(tied == 1, g, 0)
    return [np.where(winners, share, 0)]


def _exponentials(facts: Facts, a: Array) -> tuple[Array, Array]:
    """A number m, the largest one if that is finite, and e^(a - m), which then overflows nowhere."""
    m = _largest(facts, a)
    m = np.where(np.isfinite(m), m, 0)
    return m, np.exp(a - m)


def _logsumexp(facts: Facts, operands: Sequence[Array]) -> Array:
    m, e = _exponentials(facts, operands[0])
    return _squeezed(facts, m + np.log(total(e, facts.attributes["axes"])))


def _logsumexp_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    g, out = _expanded(facts, g), _expanded(facts, out)
    _, e = _exponentials(facts, operands[0])
    # Of -inf alone the derivative is 0, and so is what it gives.
    return [np.where(out == -np.inf, 0, stop(g, g * (e / total(e, facts.attributes["axes"]))))]


def _cumsum(facts: Facts, operands: Sequence[Array]) -> Array:
    # As for sums, float32 adds up in float64.
    return np.cumsum(operands[0], facts.attributes["axis"], np.float64).astype(operands[0].dtype)


def _cumsum_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    # Each element is in the sums from its own on.
    axis = facts.attributes["axis"]
    return [np.flip(_cumsum(facts, [np.flip(g, axis)]), axis)]


REDUCTIONS = {
    Opcode.SUM: Rule(_sum, _sum_vjp),
    Opcode.REDUCE_MAX: Rule(_reduce_max, _reduce_max_vjp),
    Opcode.LOGSUMEXP: Rule(_logsumexp, _logsumexp_vjp),
    Opcode.CUMSUM: Rule(_cumsum, _cumsum_vjp),
}
