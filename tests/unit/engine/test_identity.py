"""The id of a graph: the same for what means the same, another for anything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gradwire_server.engine import Ties
from tests.unit.engine.graphs import Builder


def base() -> Builder:
    builder = Builder()
    x = builder.parameter("x", (2, 3))
    builder.op("sum", builder.op("power", x, exponent=2.0), axes=(0, 1))
    return builder


def identity(builder: Builder, ties: Ties = Ties.ZERO) -> str:
    return builder.program(ties=ties).graph_id


def changed(change: Callable[[Builder], object]) -> Builder:
    builder = base()
    builder.nodes.clear()
    change(builder)
    return builder


SAME: list[Callable[[Builder], object]] = [
    lambda b: b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=2), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=2.0), axes=()),
    lambda b: b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=2.0), axes=(-2, 1)),
    lambda b: b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=2.0), axes=(1, 0)),
]

OTHER: list[Callable[[Builder], object]] = [
    lambda b: b.op("sum", b.op("power", b.parameter("y", (2, 3)), exponent=2.0), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.parameter("x", (3, 2)), exponent=2.0), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=3.0), axes=(0, 1)),
    lambda b: b.op("reduce_max", b.op("power", b.parameter("x", (2, 3)), exponent=2.0), axes=(0, 1)),
    lambda b: b.op("sum", b.op("exp", b.parameter("x", (2, 3))), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.input("x", (2, 3)), exponent=2.0), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.input("x", (2, 3), per_example=True), exponent=2.0), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=2.0, name="square"), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.constant([[1, 2, 3], [4, 5, 6]]), exponent=2.0), axes=(0, 1)),
    lambda b: b.op("sum", b.op("power", b.constant([[1, 2, 3], [4, 5, 7]]), exponent=2.0), axes=(0, 1)),
    lambda b: (b.constant(1), b.op("sum", b.op("power", b.parameter("x", (2, 3)), exponent=2.0), axes=(0, 1))),
]


@pytest.mark.parametrize("change", SAME, ids=range(len(SAME)))
def test_what_means_the_same_has_the_same_id(change: Callable[[Builder], object]) -> None:
    assert identity(changed(change)) == identity(base())


def test_everything_else_has_an_id_of_its_own() -> None:
    ids = [identity(base()), identity(base(), Ties.SPLIT), *(identity(changed(change)) for change in OTHER)]
    assert len(set(ids)) == len(ids)


def test_zero_has_no_sign_as_an_exponent() -> None:
    ids = set()
    for exponent in (0.0, -0.0):
        builder = Builder()
        builder.op("power", builder.parameter("x"), exponent=exponent)
        ids.add(identity(builder))
    assert len(ids) == 1


def test_inputs_of_rows_and_of_floats_differ() -> None:
    ids = set()
    for integer in (True, False):
        builder = Builder()
        builder.input("x", (2, 3), integer=integer)
        builder.constant(1)
        ids.add(identity(builder))
    assert len(ids) == 2


def test_it_is_stable() -> None:
    assert identity(base()) == "264d472611043080702b43cc94a2f5955af82d7aefc7d9d51fc3da4ed61e1841"
