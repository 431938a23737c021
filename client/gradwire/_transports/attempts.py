"""When to try a call again that broke off. No I/O happens here."""

from __future__ import annotations

from collections.abc import Iterator
from random import uniform

from gradwire._calls.deadline import Deadline, too_late
from gradwire._errors import DeadlineExceededError, GradwireError, OverloadedError, UnavailableError
from gradwire._transports.address import Address

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.3, 10.0, 3.0
"""Seconds between two attempts: the first pause, the longest, and how many times as long as the last the next one is.
Those of five attempts make about twelve seconds: a container that is restarted is back by then."""

JITTER = 0.2
"""Share by which a pause is longer or shorter by chance, as in gRPC's own retries."""


def _pauses(to: Address) -> Iterator[float]:
    """Seconds to wait before each further attempt at a call that broke off; as many as the address allows."""
    pause = FIRST_PAUSE
    for _ in range(to.max_attempts - 1):
        yield min(pause, LONGEST_PAUSE) * uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  (no secret)
        pause *= GROWTH


class Attempts(Deadline):
    """When to begin a call anew that broke off, or that a busy server turned away."""

    def __init__(self, to: Address, timeout: float | None) -> None:
        super().__init__(timeout)
        self._pauses = _pauses(to)
        self._failure: GradwireError | None = None
        """How the last attempt ended."""

    def _too_late(self) -> DeadlineExceededError:
        if self._failure is None:
            return too_late()
        return DeadlineExceededError(f"the call took longer than its timeout; before that, {self._failure}")

    def pause(self, error: GradwireError) -> float:
        """Seconds to wait before the next attempt, after one that ended with this error.

        Raises:
            GradwireError: This one, if trying again makes no sense, or after the last attempt, or if the server says to
                wait until after the deadline.
            DeadlineExceededError: The deadline has passed.
        """
        self._failure = error
        pause, left = None, self.left
        if isinstance(error, OverloadedError | UnavailableError):
            pause = next(self._pauses, None)
        if pause is None:
            raise error
        if isinstance(error, OverloadedError):
            # A busy server is asked no sooner than it says, and those whom it turned away together come back apart.
            pause = (error.retry_after or 0) + pause * uniform(0, 2)  # noqa: S311  (as above)
            if left is not None and pause >= left:
                raise error
        return pause if left is None else min(pause, left)
