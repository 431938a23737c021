"""Deaths of actors: how many are borne, and what is said of one too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradwire._errors import UnavailableError

RETRIES = 3
"""Times that a block of units is computed again whose actor has died, unless ``actor_options`` say another number."""


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an actor, as Ray takes them, with ours for what is not given.

    An actor is made again once more often than a block is tried again, so that a block that kills whoever computes it
    runs out of tries first, and is named. Ray without a bound makes one for ever whose process ends as it begins.
    """
    retries = given.get("max_task_retries", RETRIES)
    restarts = -1 if retries < 0 else retries + 1
    return {"num_cpus": 1, "max_restarts": restarts, "max_task_retries": retries, **given}


def given_up(work: str, options: Mapping[str, Any], death: Exception) -> UnavailableError:
    """The error of an actor that died for good before it computed anything: the next one would not live longer."""
    deaths = options["max_restarts"] + 1
    times = {0: "for good", 1: "once"}.get(deaths, f"{deaths} times")
    return UnavailableError(
        f"the actor that was to compute {work} has died {times} before it computed anything, "
        f"and is given up: {death}; find out in the logs of its node (/tmp/ray/session_latest/logs) what ends "
        "its process as it begins: a package that cannot be imported there, an environment that actor_options set, or "
        "want of memory, where actors need more each"
    )
