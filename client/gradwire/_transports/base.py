"""What carries the steps of a call: gRPC, or the engine in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import Result
from gradwire._calls.steps import Step
from gradwire._calls.stream import Stream


class Transport(Protocol):
    """Carries steps. Safe to share among threads."""

    def send(self, step: Step, deadline: Deadline) -> object:
        """The answer to a step, by then.

        Raises:
            GradwireError: Whatever went wrong.
        """

    def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], deadline: Deadline) -> Result:
        """The result of a computation for these arrays.

        Args:
            computation: What to evaluate and differentiate.
            values: Arrays by name.
            deadline: When it must be there.

        Raises:
            GradwireError: Whatever went wrong.
        """

    def stream(self, computation: Computation) -> Stream:
        """A stream of calls of one computation."""

    def close(self) -> None:
        """Let go of what it holds; it cannot be used any more."""
