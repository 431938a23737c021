"""Who waits for a result, and whether they still do."""

from __future__ import annotations

from time import monotonic

from gradwire_server.errors import Reason, refuse

SHUTTING_DOWN = "the server is shutting down; try again, on another replica"


class Caller:
    """Who waits for a result, and until when. Its checkpoint may be called from any thread."""

    __slots__ = ("_allowed", "_deadline", "_gone", "name")

    def __init__(self, seconds: float | None) -> None:
        self.name = ""
        """Whose turn it takes: that of a connection."""
        self._deadline = None if seconds is None else monotonic() + seconds
        self._allowed: tuple[float, float] | None = None
        """When the server stops the work, and after how many seconds."""
        self._gone: tuple[Reason, str] | None = None

    def checkpoint(self) -> None:
        """Go on if the result is still wanted.

        Raises:
            Refusal: CANCELLED, DEADLINE_EXCEEDED, SHUTTING_DOWN.
        """
        if self._gone is not None:
            raise refuse(*self._gone)
        if self._deadline is not None and monotonic() >= self._deadline:
            raise refuse(
                Reason.DEADLINE_EXCEEDED,
                "the deadline passed before the result was there; give the call more time",
            )
        if self._allowed is not None and monotonic() >= self._allowed[0]:
            raise refuse(
                Reason.DEADLINE_EXCEEDED,
                f"the request has computed for {self._allowed[1]:g} s, as long as this server lets one (max_seconds); "
                "send fewer examples at a time, or a smaller graph",
                limit=f"{self._allowed[1]:g}",
                setting="max_seconds",
            )

    def allow(self, seconds: float) -> None:
        """Let the work take so many seconds from now on, or from when this was said first."""
        if self._allowed is None:
            self._allowed = monotonic() + seconds, seconds

    def dismiss(self, reason: Reason, message: str) -> None:
        """Have the work stop at its next checkpoint."""
        self._gone = reason, message
