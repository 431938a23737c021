"""What a job takes, as a plan remembers it."""

from __future__ import annotations

from typing import TypedDict


class Measure(TypedDict):
    """Fields of a job that depend on little of its request."""

    lanes: int
    blocks: int
    threads: int
    ahead: int
    cost: float
    memory: int
