"""What carries the steps of a call: gRPC, or the engine in this process."""

from __future__ import annotations

from typing import Protocol

from gradwire._computation import Computation
from gradwire._steps import Step
from gradwire._stream import Stream


class Transport(Protocol):
    """Carries steps. Safe to share among threads."""

    def send(self, step: Step, timeout: float | None) -> object:
        """The answer to a step.

        Args:
            step: What to send.
            timeout: Seconds for all of it; None for no bound.

        Raises:
            GradwireError: Whatever went wrong.
        """

    def stream(self, computation: Computation) -> Stream:
        """A stream of calls of one computation."""

    def close(self) -> None:
        """Let go of what it holds; it cannot be used any more."""
