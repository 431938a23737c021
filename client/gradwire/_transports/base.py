"""What carries the steps of a call: gRPC, or the engine in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import Result
from gradwire._calls.steps import Step, Steps, perform, seconds
from gradwire._calls.stream import Stream

T = TypeVar("T")


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

    def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], timeout: float | None) -> Result:
        """The result of a computation for these arrays.

        Args:
            computation: What to evaluate and differentiate.
            values: Arrays by name.
            timeout: Seconds for all of it; None for no bound.

        Raises:
            GradwireError: Whatever went wrong.
        """

    def stream(self, computation: Computation) -> Stream:
        """A stream of calls of one computation."""

    def close(self) -> None:
        """Let go of what it holds; it cannot be used any more."""


def send_within(transport: Transport, steps: Steps[T], timeout: float | None) -> T:
    """Perform the steps of a call, all of them within ``timeout`` seconds."""
    deadline = Deadline(seconds(timeout))
    return perform(steps, lambda step: transport.send(step, deadline.left))
