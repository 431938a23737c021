"""Costs of a step that can be worked out by hand."""

from __future__ import annotations

import pytest

from tests.benchmarks.scaling.assumptions import Assumptions
from tests.benchmarks.scaling.fitting import fit
from tests.benchmarks.scaling.model import Model
from tests.benchmarks.scaling.points import Point
from tests.unit.scaling.test_fitting import BUSY_CALL, CLIENT, DRIVER, LOCAL, RAY, SERVER, STEP, WALL, made

SMALL = Point((30, 1), 256).size
"""31 parameters; 256 examples of 31 numbers."""

WORK = LOCAL["parameter"] * 31 + LOCAL["unit"] * 256 + LOCAL["number"] * 256 * 31 + LOCAL["product"] * 256 * 60
SENT = 8 * (31 + 256 * 31)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(fit(made()), Assumptions(hop=1e-3, bandwidth=1e9))


def test_in_process_is_the_call_and_the_work_and_then_the_sum(model: Model) -> None:
    assert model.in_process(1, SMALL).seconds == pytest.approx(LOCAL["call"] + WORK)
    eight = model.in_process(8, SMALL)
    assert eight.seconds == pytest.approx(LOCAL["call"] + WORK + 2 * 7 / 8 * 8 * 31 / 1e9 + 2 * 3 * 1e-3)
    assert eight.core_seconds == pytest.approx(8 * (LOCAL["call"] + WORK))


def test_one_caller_waits_for_nothing_but_its_call(model: Model) -> None:
    cost = model.served(1, SMALL, stored=False)
    wire = WALL["call"] + WALL["byte in"] * SENT + WALL["byte out"] * 8 * 31
    assert cost.seconds == pytest.approx(wire + 2e-3 + (SENT + 8 * 31) / 1e9 + WORK)
    client = CLIENT["call"] + CLIENT["byte in"] * SENT + CLIENT["byte out"] * 8 * 31
    server = BUSY_CALL + SERVER["byte in"] * SENT + SERVER["byte out"] * 8 * 31 + WORK
    assert cost.core_seconds == pytest.approx(client + server)
    assert cost.busiest_bytes == SENT


def test_stored_examples_leave_the_parameters_to_send(model: Model) -> None:
    assert model.served(10, SMALL, stored=True).busiest_bytes == 10 * 8 * 31


def test_many_callers_wait_for_the_cores_of_the_server(model: Model) -> None:
    cost = model.served(1600, SMALL, stored=True)
    server = BUSY_CALL + (SERVER["byte in"] + SERVER["byte out"]) * 8 * 31 + WORK
    alone = WALL["call"] + (WALL["byte in"] + WALL["byte out"]) * 8 * 31 + 2e-3 + 2 * 8 * 31 / 1e9 + WORK
    assert cost.seconds == pytest.approx(alone + 99 * server + model.exchange(1600, SMALL))
    assert cost.waits_for == "cores of the server"


def test_replicas_are_as_few_as_hold_the_bound(model: Model) -> None:
    cost = model.replicated(1600, SMALL, stored=True)
    bound = 2 * model.served(1, SMALL, stored=True).seconds + model.exchange(1600, SMALL)
    assert cost.replicas > 1
    assert cost.seconds <= bound < model.served(1600, SMALL, stored=True, replicas=cost.replicas - 1).seconds


def test_a_balancer_adds_two_hops_and_its_own_time(model: Model) -> None:
    one, two = (model.served(1, SMALL, stored=True, replicas=replicas) for replicas in (1, 2))
    passing = 80e-6 + 2 * 8 * 31 * 1e-9
    assert two.seconds == pytest.approx(one.seconds + passing + 2e-3)
    assert two.core_seconds == pytest.approx(one.core_seconds + passing)
    assert (one.balancers, two.balancers) == (0, 1)


def test_limits_of_a_server_are_told(model: Model) -> None:
    assert model.served(16_000, SMALL, stored=False).broken == ()
    assert model.served(16_001, SMALL, stored=False).broken == ("requests in flight",)
    assert "connections" in model.served(160_001, SMALL, stored=False).broken
    assert model.served(2, Point((1000, 1), 1 << 20).size, stored=False).broken == (
        "bytes in flight",
        "bytes of a request",
        "memory of a worker",
    )


def test_the_driver_does_something_for_every_actor(model: Model) -> None:
    cost = model.actors(1000, SMALL)
    driver = 1000 * (DRIVER["actor"] + DRIVER["gathered byte"] * 8 * 31) + DRIVER["stored byte"] * 8 * 31
    assert cost.seconds == pytest.approx(STEP["step"] + 2e-3 + driver + LOCAL["call"] + WORK)
    ray = RAY["step"] + 1000 * (RAY["actor"] + RAY["gathered byte"] * 8 * 31) + RAY["stored byte"] * 8 * 31
    assert cost.core_seconds == pytest.approx(driver + DRIVER["step"] + ray + 1000 * (LOCAL["call"] + WORK))


def test_a_layout_is_full_where_a_step_takes_twice_as_long(model: Model) -> None:
    most, over = model.full(model.actors, SMALL)
    alone = model.actors(1, SMALL).seconds
    assert model.actors(most, SMALL).seconds <= 2 * alone < model.actors(most + 1, SMALL).seconds
    assert over == "driver"
    assert model.full(model.in_process, SMALL) == (10_000_000, "")
