"""What the log says of calls that are turned away, by whom there may be many: now and then how many, not one by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import Context

import structlog

SECONDS = 1.0
"""Between two lines; one a request would cost more than to turn it away, and let strangers fill a disk."""

_log = structlog.get_logger()


class TurnedAway:
    """Requests that were turned away since the last line. Used on the event loop alone."""

    def __init__(self, event: str, level: str) -> None:
        self._event, self._level = event, level
        self._counts: Counter[str] = Counter()
        self._peer: str | None = None

    def count(self, cause: str, peer: str | None = None) -> None:
        """One more, of this caller if that is known."""
        if not self._counts:
            # Without what is logged with the call that is under way.
            asyncio.get_running_loop().call_later(SECONDS, self.tell, context=Context())
        self._counts[cause] += 1
        self._peer = peer

    def tell(self) -> None:
        """Log a line, if there were any."""
        if self._counts:
            last = {} if self._peer is None else {"last_peer": self._peer}
            getattr(_log, self._level)(self._event, **self._counts, **last)
            self._counts.clear()
