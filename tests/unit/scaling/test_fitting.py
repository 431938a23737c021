"""The fit finds the coefficients that numbers were made with, and says how wrong it is about others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.scaling import kept
from tests.benchmarks.scaling.fitting import (
    actor_terms,
    call_terms,
    fit,
    least_squares,
    size_of,
    work_terms,
)
from tests.benchmarks.scaling.points import FITTED, HELD, POINTS, SMALL, Point

LOCAL = {"call": 60e-6, "parameter": 2e-9, "unit": 8e-9, "number": 0.5e-9, "product": 0.1e-9}
CLIENT = {"call": 200e-6, "framed": 900e-6, "byte in": 0.4e-9, "byte out": 0.6e-9}
SERVER = {"call": 300e-6, "framed": 500e-6, "byte in": 0.7e-9, "byte out": 0.3e-9}
LOOP = {"call": 250e-6, "framed": 100e-6, "byte in": 0.2e-9, "byte out": 0.1e-9}
WALL = {"call": 700e-6, "framed": 1200e-6, "byte in": 1.1e-9, "byte out": 0.9e-9}
DRIVER = {"step": 2e-3, "actor": 300e-6, "stored byte": 0.3e-9, "gathered byte": 0.2e-9}
RAY = {"step": 1e-3, "actor": 700e-6, "stored byte": 0.1e-9, "gathered byte": 0.4e-9}
STEP = {"step": 4e-3, "actor": 500e-6, "stored byte": 0.5e-9, "gathered byte": 0.6e-9}
BUSY_CALL, BUSY_LOOP = 260e-6, 210e-6


def total(coefficients: Mapping[str, float], terms: Mapping[str, float]) -> float:
    assert coefficients.keys() == terms.keys()
    return sum(coefficients[name] * terms[name] for name in terms)


def call(point: Point, way: str) -> dict[str, Any]:
    size = point.size
    work = total(LOCAL, {"call": 0.0, **work_terms(size)})
    back = 8 * size.parameters
    coming = back + (8 * size.examples * size.numbers if way == "sent" else 0)
    terms = call_terms(coming, back)
    small = work if coming <= 1 << 18 and work <= 1e-3 else 0.0
    local = way == "local"
    return {
        "widths": list(point.widths),
        "examples": point.examples,
        "held": point.held,
        "way": way,
        "client_seconds": LOCAL["call"] + work if local else total(CLIENT, terms),
        "server_seconds": 0.0 if local else total(SERVER, terms) + work,
        "loop_seconds": 0.0 if local else total(LOOP, terms) + small,
        "wall_seconds": LOCAL["call"] + work if local else total(WALL, terms) + work,
        "bytes_in": coming,
        "bytes_out": back,
    }


def made() -> dict[str, Any]:
    """Measurements that follow the model to the last digit."""
    busy = []
    for point in SMALL:
        work = total(LOCAL, {"call": 0.0, **work_terms(point.size)})
        taken = {
            "server_seconds": BUSY_CALL + 1000 * SERVER["byte in"],
            "loop_seconds": BUSY_LOOP + 1000 * LOOP["byte in"],
        }
        busy.append(
            {
                "widths": list(point.widths),
                "examples": point.examples,
                "bytes_in": 1000,
                **{name: seconds + work for name, seconds in taken.items()},
            }
        )
    actors = [
        {
            "actors": count,
            "parameters": parameters,
            "held": (count, parameters) == (3, 3000),
            "driver_seconds": total(DRIVER, actor_terms(count, parameters)),
            "ray_seconds": 0.25 * total(RAY, actor_terms(count, parameters)),
            "actor_seconds": 0.75 * total(RAY, actor_terms(count, parameters)),
            "wall_seconds": total(STEP, actor_terms(count, parameters)),
        }
        for count in (1, 2, 3, 4)
        for parameters in (10, 3000, 1_000_000)
    ]
    balancer = [
        {
            "held": nbytes == 3000,
            "bytes_in": nbytes,
            "bytes_out": 2 * nbytes,
            "balancer_seconds": 80e-6 + 3 * nbytes * 1e-9,
        }
        for nbytes in (100, 3000, 100_000)
    ]
    calls = [call(point, way) for point in POINTS for way in ("local", "sent", "stored")]
    return {"calls": calls, "busy": busy, "actors": actors, "balancer": balancer}


def test_it_finds_the_coefficients_that_measurements_were_made_with() -> None:
    found = fit(made())
    known = {
        "local": LOCAL,
        "client": CLIENT,
        "server": SERVER,
        "loop": LOOP,
        "wall": WALL,
        "balancer": {"call": 80e-6, "passing byte": 1e-9},
        "driver": DRIVER,
        "nodes": RAY,
        "step": STEP,
    }
    for name, coefficients in known.items():
        assert getattr(found, name).coefficients == pytest.approx(coefficients, rel=1e-6), name
        assert getattr(found, name).worst < 1e-6, name
    assert (found.busy_call, found.busy_loop) == pytest.approx((BUSY_CALL, BUSY_LOOP))


def test_noise_moves_the_coefficients_little_and_is_seen_in_the_error() -> None:
    random = np.random.default_rng(3)
    rows = [row for row in made()["calls"] if row["way"] != "local"]
    for row in rows:
        row["client_seconds"] *= random.lognormal(sigma=0.1)
    found = least_squares(
        rows, lambda row: call_terms(row["bytes_in"], row["bytes_out"]), lambda row: row["client_seconds"]
    )
    assert found.coefficients["call"] == pytest.approx(CLIENT["call"], rel=0.1)
    assert found.coefficients["byte in"] == pytest.approx(CLIENT["byte in"], rel=0.3)
    assert 0.02 < found.typical < 0.15
    assert found.typical <= found.worst < 0.4


def test_rows_that_are_held_out_do_not_move_the_fit() -> None:
    rows = [row for row in made()["calls"] if row["way"] == "sent"]
    for row in rows:
        row["client_seconds"] *= 3 if row["held"] else 1
    found = least_squares(
        rows, lambda row: call_terms(row["bytes_in"], row["bytes_out"]), lambda row: row["client_seconds"]
    )
    assert found.coefficients == pytest.approx(CLIENT, rel=1e-6)
    assert found.errors == pytest.approx([2 / 3] * len(HELD))


def test_a_small_call_counts_as_much_as_a_large_one() -> None:
    rows = [{"held": False, "x": 1.0, "seconds": 1.0}, {"held": False, "x": 100.0, "seconds": 200.0}]
    found = least_squares(rows, lambda row: {"unit": row["x"]}, lambda row: row["seconds"])
    # (c - 1)^2 + (c / 2 - 1)^2 is least there; squares of seconds would make it 2.
    assert found.coefficients["unit"] == pytest.approx(1.2)


def test_no_coefficient_is_below_zero() -> None:
    rows = [{"held": False, "x": x, "seconds": 1.0 - 0.1 * x} for x in (0.0, 1.0, 2.0)]
    found = least_squares(rows, lambda row: {"call": 1.0, "unit": row["x"]}, lambda row: row["seconds"])
    assert found.coefficients["unit"] == 0.0


def test_what_was_measured_is_what_the_points_say() -> None:
    calls = kept.read()["calls"]
    assert {(tuple(row["widths"]), row["examples"]) for row in calls} == {
        (each.widths, each.examples) for each in POINTS
    }
    assert sum(not row["held"] for row in calls) == 3 * len(FITTED)
    perceptron = size_of(next(row for row in calls if row["widths"] == [784, 256, 1]))
    assert (perceptron.parameters, perceptron.numbers, perceptron.units) == (201_217, 785, 257)
    assert perceptron.products == 2 * (784 * 256 + 256) + 256
