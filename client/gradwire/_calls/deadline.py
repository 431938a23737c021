"""How long a call may take. No I/O happens here."""

from __future__ import annotations

from time import monotonic

from gradwire._errors import DeadlineExceededError


class Deadline:
    """When a call that began just now must have ended; ``timeout`` is in seconds, None is no bound."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else monotonic() + timeout

    @property
    def left(self) -> float | None:
        """Seconds until then; None for no bound.

        Raises:
            DeadlineExceededError: It has passed.
        """
        left = None if self._end is None else self._end - monotonic()
        if left is not None and left <= 0:
            raise self._too_late()
        return left

    def _too_late(self) -> DeadlineExceededError:
        return too_late()


def too_late() -> DeadlineExceededError:
    """The error of a call that took longer than its timeout."""
    return DeadlineExceededError("the call took longer than its timeout; give it more time")
