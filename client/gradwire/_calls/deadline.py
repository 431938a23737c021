"""How long a call may take. No I/O happens here."""

from __future__ import annotations

from math import isnan
from time import monotonic

from gradwire._errors import DeadlineExceededError, GradwireError, InvalidRequestError
from gradwire._numbers import real

LONGEST = 1e8
"""Seconds; gRPC takes much longer timeouts for ones that have passed."""


class Deadline:
    """When a call that began just now must have ended.

    Args:
        timeout: Seconds, as the caller gives them; None, and more than three years, is no bound.

    Raises:
        InvalidRequestError: It is no number.
    """

    __slots__ = ("_end", "failure")

    def __init__(self, timeout: object = None) -> None:
        self._end = None if timeout is None else monotonic() + _seconds(timeout)
        self.failure: GradwireError | None = None
        """How the last attempt at the call ended."""

    @property
    def left(self) -> float | None:
        """Seconds until then; None for no bound.

        Raises:
            DeadlineExceededError: It has passed.
        """
        if self._end is None:
            return None
        left = self._end - monotonic()
        if left <= 0:
            raise self.too_late()
        return left if left <= LONGEST else None

    def too_late(self) -> DeadlineExceededError:
        """The error of the call, once it has passed."""
        if self.failure is None:
            return DeadlineExceededError("the call took longer than its timeout; give it more time")
        return DeadlineExceededError(f"the call took longer than its timeout; before that, {self.failure}")


def _seconds(timeout: object) -> float:
    bound = real(timeout)
    if bound is None or isnan(bound):
        raise InvalidRequestError(f"timeout={timeout!r} is no number of seconds")
    return bound
