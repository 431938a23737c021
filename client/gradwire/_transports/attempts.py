"""When to try a call again that broke off. No I/O happens here."""

from __future__ import annotations

from random import uniform

from gradwire._calls.deadline import Deadline
from gradwire._errors import GradwireError, OverloadedError
from gradwire._transports.address import Address

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.3, 10.0, 3.0
"""Seconds between two attempts: the first pause, the longest, and how many times as long as the last the next one is.
Those of five attempts make about twelve seconds: a container that is restarted is back by then."""

JITTER = 0.2
"""Share by which a pause is longer or shorter by chance, as in gRPC's own retries."""


class Attempts:
    """When to begin a call anew that broke off, or that a busy server turned away."""

    def __init__(self, to: Address, deadline: Deadline) -> None:
        self._left = to.max_attempts - 1
        self._pause = FIRST_PAUSE
        self._deadline = deadline

    def pause(self, error: GradwireError) -> float:
        """Seconds to wait before the next attempt, after one that ended with this error.

        Raises:
            GradwireError: This one, after the last attempt, or if the server says to wait until after the deadline.
            DeadlineExceededError: The deadline has passed.
        """
        self._deadline.failure = error
        left = self._deadline.left
        if self._left == 0:
            raise error
        pause = min(self._pause, LONGEST_PAUSE) * uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  (no secret)
        self._left -= 1
        self._pause *= GROWTH
        if isinstance(error, OverloadedError):
            # A busy server is asked no sooner than it says, and those whom it turned away together come back apart.
            pause = (error.retry_after or 0) + pause * uniform(0, 2)  # noqa: S311  (as above)
            if left is not None and pause >= left:
                raise error
        return pause if left is None else min(pause, left)
