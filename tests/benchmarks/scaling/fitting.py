"""Coefficients of the cost model: least squares on what was measured, and errors on what the fit did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from tests.benchmarks.scaling.points import Point, Size

Row = Mapping[str, Any]
Terms = Mapping[str, float]
"""What each coefficient is multiplied by for one row."""

FRAMED_BYTES = 1 << 20
"""A request or response above it travels on a stream of its own, in frames."""

LOOP_BYTES, LOOP_SECONDS = 1 << 18, 1e-3
"""Requests up to both are computed by the event loop itself."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients by name, in seconds for one of what the name says, and how wrong they are."""

    coefficients: Mapping[str, float]
    errors: Sequence[float]
    """Relative, of the rows that were kept out."""

    def seconds(self, terms: Terms) -> float:
        """What the model says."""
        return sum(self.coefficients[name] * amount for name, amount in terms.items())

    @property
    def typical(self) -> float:
        """The median error on the rows that were kept out."""
        return median(self.errors)

    @property
    def worst(self) -> float:
        """The largest."""
        return max(self.errors)


def least_squares(
    rows: Sequence[Row],
    terms: Callable[[Row], Terms],
    measured: Callable[[Row], float],
    known: Callable[[Row], float] = lambda _: 0.0,
) -> Fit:
    """Coefficients, none below 0, for which squares of *relative* errors are least: a call takes from 60 us to 100 ms.

    Args:
        rows: What was measured; those that are ``held`` are only for the errors.
        terms: What the coefficients are multiplied by.
        measured: Seconds of a row.
        known: Seconds of it that another fit explains.
    """
    seen = [row for row in rows if not row["held"]]
    names = list(terms(seen[0]))
    weights = np.array([1 / measured(row) for row in seen])
    left = np.array([[terms(row)[name] for name in names] for row in seen])
    right = np.array([measured(row) - known(row) for row in seen])
    scale = np.abs(left).max(axis=0)
    found, _ = nnls(left / scale * weights[:, None], right * weights)
    coefficients = {name: float(value) for name, value in zip(names, found / scale, strict=True)}
    fit = Fit(coefficients, ())
    errors = [abs(known(row) + fit.seconds(terms(row)) - measured(row)) / measured(row) for row in rows if row["held"]]
    return Fit(coefficients, errors)


def work_terms(size: Size) -> Terms:
    """What the engine's time is made of, beside a call."""
    return {
        "parameter": size.parameters,
        "unit": size.examples * size.units,
        "number": size.examples * size.numbers,
        "product": size.examples * size.products,
    }


def call_terms(bytes_in: float, bytes_out: float) -> Terms:
    """What the time of a call on the wire is made of, beside the engine's."""
    framed = float(max(bytes_in, bytes_out) > FRAMED_BYTES)
    return {"call": 1.0, "framed": framed, "byte in": bytes_in, "byte out": bytes_out}


def passing_terms(nbytes: float) -> Terms:
    """What the time of a balancer is made of, for a call."""
    return {"call": 1.0, "passing byte": nbytes}


def actor_terms(actors: float, parameters: float) -> Terms:
    """What a step of actors is made of, beside their computing."""
    return {"step": 1.0, "actor": actors, "stored byte": 8 * parameters, "gathered byte": 8 * parameters * actors}


@dataclass(frozen=True, slots=True)
class Fits:
    """All of the model's coefficients."""

    local: Fit
    """Processor seconds of a call in process: ``call``, and the engine's work on one core."""
    client: Fit
    """Processor seconds of a caller."""
    server: Fit
    """Processor seconds of the server, without the engine's work."""
    loop: Fit
    """Processor seconds of its event loop, likewise."""
    wall: Fit
    """Seconds by the clock of one call on loopback, likewise."""
    busy_call: float
    """``call`` of a server that always has the next one waiting."""
    busy_loop: float
    """``call`` of its event loop."""
    balancer: Fit
    """Processor seconds of a balancer for a call that passes it."""
    driver: Fit
    """Processor seconds of Ray's driver in a step."""
    nodes: Fit
    """Processor seconds of Ray's own processes, and of the actors' part in Ray, in a step."""
    step: Fit
    """Seconds by the clock of a step without computing."""

    def work(self, size: Size) -> float:
        """Seconds of one core for the engine's part of a call."""
        return self.local.seconds({"call": 0.0, **work_terms(size)})

    def in_loop(self, size: Size, bytes_in: float) -> float:
        """Seconds of the engine's part that the event loop takes."""
        work = self.work(size)
        return work if bytes_in <= LOOP_BYTES and work <= LOOP_SECONDS else 0.0


def size_of(row: Row) -> Size:
    """The size of a measured call."""
    return Point(tuple(row["widths"]), row["examples"]).size


def fit(measurements: Mapping[str, Any]) -> Fits:
    """All coefficients from what ``measure`` wrote."""
    calls: list[Row] = measurements["calls"]
    local = least_squares(
        [row for row in calls if row["way"] == "local"],
        lambda row: {"call": 1.0, **work_terms(size_of(row))},
        lambda row: row["client_seconds"],
    )
    work = {id(row): local.seconds({"call": 0.0, **work_terms(size_of(row))}) for row in calls}
    wired = [row for row in calls if row["way"] != "local"]

    def wire(measured: str, known: Callable[[Row], float]) -> Fit:
        return least_squares(
            wired, lambda row: call_terms(row["bytes_in"], row["bytes_out"]), lambda row: row[measured], known
        )

    def in_loop(row: Row) -> float:
        taken = work[id(row)]
        return taken if row["bytes_in"] <= LOOP_BYTES and taken <= LOOP_SECONDS else 0.0

    client = wire("client_seconds", lambda _: 0.0)
    server = wire("server_seconds", lambda row: work[id(row)])
    loop = wire("loop_seconds", in_loop)
    busy: list[Row] = measurements["busy"]
    actors: list[Row] = measurements["actors"]
    return Fits(
        local=local,
        client=client,
        server=server,
        loop=loop,
        wall=wire("wall_seconds", lambda row: work[id(row)]),
        busy_call=_call_of(busy, "server_seconds", server, local),
        busy_loop=_call_of(busy, "loop_seconds", loop, local),
        balancer=least_squares(
            measurements["balancer"],
            lambda row: passing_terms(row["bytes_in"] + row["bytes_out"]),
            lambda row: row["balancer_seconds"],
        ),
        driver=_of_actors(actors, lambda row: row["driver_seconds"]),
        nodes=_of_actors(actors, lambda row: row["ray_seconds"] + row["actor_seconds"]),
        step=_of_actors(actors, lambda row: row["wall_seconds"]),
    )


def _call_of(busy: Sequence[Row], measured: str, by: Fit, local: Fit) -> float:
    """What a call takes beside its bytes and its computing, where the server is never idle."""
    left: list[float] = [
        row[measured]
        - by.coefficients["byte in"] * row["bytes_in"]
        - local.seconds({"call": 0.0, **work_terms(size_of(row))})
        for row in busy
    ]
    return median(left)


def _of_actors(rows: Sequence[Row], measured: Callable[[Row], float]) -> Fit:
    return least_squares(rows, lambda row: actor_terms(row["actors"], row["parameters"]), measured)
