"""Options of actors that die, and what is said of one that never computed anything."""

from __future__ import annotations

from typing import Any

import pytest

from gradwire_server.units.deaths import given_up, options_of


@pytest.mark.parametrize(
    ("given", "restarts", "retries"),
    [
        ({}, 4, 3),
        ({"max_task_retries": 9}, 10, 9),
        ({"max_task_retries": -1}, -1, -1),
        ({"max_restarts": 0}, 0, 3),
        ({"max_restarts": -1, "num_cpus": 2}, -1, 3),
    ],
)
def test_a_block_runs_out_of_tries_before_its_actor_does_unless_the_caller_says_so(
    given: dict[str, Any], restarts: int, retries: int
) -> None:
    expected = {"num_cpus": given.get("num_cpus", 1), "max_restarts": restarts, "max_task_retries": retries}
    assert options_of(given) == expected


@pytest.mark.parametrize(("restarts", "times"), [(-1, "for good"), (0, "once"), (4, "5 times")])
def test_an_actor_that_is_given_up_is_named_with_its_deaths_and_what_to_do(restarts: int, times: str) -> None:
    said = str(given_up("row group 0 of a.parquet", {"max_restarts": restarts}, ValueError("end of file")))
    assert f"the actor that was to compute row group 0 of a.parquet has died {times} before it computed" in said
    assert ": end of file; find out in the logs of its node" in said
