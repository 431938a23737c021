"""The sum of a loss and its gradients over units: what whoever shares out the work has computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gradwire._arrays import Array
from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import NonFinite, Result
from gradwire._errors import GradwireError
from gradwire.v1 import graph_pb2
from gradwire_server.local import LocalTransport
from gradwire_server.units.columns import Column, arrays_of
from gradwire_server.units.formats import Unit
from gradwire_server.units.tree import summed

PROGRAMS = 16
"""Programs that a process keeps what its engine has made of."""


class Program(NamedTuple):
    """What is computed of each unit, as data: no code of the caller travels."""

    graph: bytes
    """Serialized."""
    wrt: tuple[str, ...] | None
    dtype: str
    columns: tuple[tuple[str, Column], ...]
    """By input."""


class Partial(NamedTuple):
    """The sum over some units."""

    units: int
    rows: int
    loss: float
    gradients: dict[str, Array]
    """``[*shape]`` by source, in float64."""
    non_finite: tuple[Unit, NonFinite] | None
    """The first number that is not finite, of the first unit that has one."""
    compute_seconds: float
    tiles: int


def sum_over(program: Program, arrays: Mapping[str, Array], units: Sequence[Unit], threads: int = 1) -> Partial:
    """The sum over a block of units, which are read one after another.

    Args:
        program: What to compute.
        arrays: Of all sources but the columns, by name.
        units: At least one.
        threads: Threads that read and compute; they change no bit.

    Raises:
        GradwireError: What is wrong, with the unit.
    """
    return total(_of_unit(program, arrays, unit, threads) for unit in units)


def over_no_rows(program: Program, arrays: Mapping[str, Array]) -> Partial:
    """The sum over no rows, which finds what is wrong with arrays, those of the columns without rows among them.

    Raises:
        GradwireError: What is wrong.
    """
    return _partial(0, 0, _result(program, arrays, 1), None)


def add(left: Partial, right: Partial) -> Partial:
    """The sum over the units of both."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Partial(
            left.units + right.units,
            left.rows + right.rows,
            float(np.add(left.loss, right.loss)),
            {name: array + right.gradients[name] for name, array in left.gradients.items()},
            left.non_finite or right.non_finite,
            left.compute_seconds + right.compute_seconds,
            left.tiles + right.tiles,
        )


def total(parts: Iterable[Partial]) -> Partial:
    """The sum over all parts, in their order."""
    return summed(parts, add, lambda part: part.units)


def _of_unit(program: Program, arrays: Mapping[str, Array], unit: Unit, threads: int) -> Partial:
    columns = arrays_of(unit, dict(program.columns), threads=threads > 1)
    try:
        result = _result(program, {**arrays, **columns}, threads)
    except GradwireError as error:
        error.args = (f"{unit}: {error}",)
        raise
    return _partial(1, unit.rows, result, None if result.non_finite is None else (unit, result.non_finite))


def _result(program: Program, arrays: Mapping[str, Array], threads: int) -> Result:
    return _engine(threads).evaluate(_computation(program), arrays, Deadline(None))


def _partial(units: int, rows: int, result: Result, non_finite: tuple[Unit, NonFinite] | None) -> Partial:
    gradients = {name: np.asarray(array, np.float64) for name, array in result.by_name.items()}
    return Partial(units, rows, float(result.loss), gradients, non_finite, result.compute_seconds, result.blocks)


@lru_cache(maxsize=PROGRAMS)
def _computation(program: Program) -> Computation:
    graph = graph_pb2.Graph.FromString(program.graph)
    return Computation(graph, reduction="sum", wrt=program.wrt, dtype=program.dtype)


@lru_cache(maxsize=1)
def _engine(threads: int) -> LocalTransport:
    return LocalTransport(threads)
