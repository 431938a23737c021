"""Collecting what is wrong with a message, so that a caller learns of all of it at once."""

from __future__ import annotations

from gradwire_server.errors import Finding, Reason, Refusal

MAX_LISTED = 20
"""Findings that are told one by one; of the rest only the number."""


class Findings:
    """The findings of one message; each has the same reason."""

    def __init__(self, reason: Reason) -> None:
        self._reason = reason
        self._listed: list[Finding] = []
        self._total = 0

    def add(self, message: str, path: str) -> None:
        """Note one thing that is wrong."""
        self._total += 1
        if len(self._listed) < MAX_LISTED:
            self._listed.append(Finding(reason=self._reason, message=message, path=path))

    def check(self) -> None:
        """Go on if nothing was wrong.

        Raises:
            Refusal: with everything that was noted.
        """
        if self._listed:
            raise Refusal(self._listed, self._total)
