"""What the log says of the requests that a busy server turns away: now and then how many, not one by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import Context

import structlog

from gradwire_server.service.limits import Resource

SECONDS = 1.0
"""Between two lines; one a request would cost more than to turn it away."""

_log = structlog.get_logger()


class TurnedAway:
    """Requests that were turned away since the last line. Used on the event loop alone."""

    def __init__(self) -> None:
        self._counts: Counter[Resource] = Counter()

    def count(self, resource: Resource) -> None:
        """One more, for want of this."""
        if not self._counts:
            # Without what is logged with the call that is under way.
            asyncio.get_running_loop().call_later(SECONDS, self.tell, context=Context())
        self._counts[resource] += 1

    def tell(self) -> None:
        """Log a line, if there were any."""
        if self._counts:
            counts = {resource.value: count for resource, count in self._counts.items()}
            _log.warning("busy: turned requests away, for want of", **counts)
            self._counts.clear()
