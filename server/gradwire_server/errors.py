"""Refusals: every way in which a request can be wrong, as data.

This module imports nothing of the package, so that every layer can raise the same exception. The reasons are
those of the contract (``gradwire/v1/errors.proto``); a test holds the two lists against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto

ENOUGH, MOST = 1000, 100_000
"""Findings after which nobody looks for more, where a look takes microseconds; and those that are counted at most,
however little a look takes: a request of 2 MB may have a million."""

MAX_FINDINGS = 20
"""Findings that are told one by one; of the rest only the number."""


class Reason(StrEnum):
    """Why a request was refused. Stable: texts may change, reasons may not."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    MALFORMED_MESSAGE = auto()
    GRAPH_MISSING = auto()
    INVALID_GRAPH = auto()
    INVALID_TENSOR = auto()
    INVALID_REQUEST = auto()
    INDEX_OUT_OF_RANGE = auto()
    INVALID_FRAME = auto()
    GRAPH_NOT_FOUND = auto()
    NON_FINITE = auto()
    LIMIT_EXCEEDED = auto()
    OVERLOADED = auto()
    DEADLINE_EXCEEDED = auto()
    CANCELLED = auto()
    SHUTTING_DOWN = auto()
    INTERNAL = auto()
    UNAUTHENTICATED = auto()
    EXAMPLES_NOT_FOUND = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a request."""

    reason: Reason
    """The stable reason."""
    message: str
    """What was found, what was expected, what to do; names the node by its name."""
    path: str = ""
    """Where in the request, such as ``graph.nodes[17].mul.operands[1]``; empty for the request as a whole."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The variables of the message, such as ``{"limit": "1000000", "found": "1000001"}``."""


class Refusal(Exception):
    """A request that cannot be served, with all findings (the first ones, if there are very many).

    Args:
        findings: The first ones.
        total: How many there are. Default: as many as these.
        counted: Whether all were looked for; otherwise there are at least so many.
    """

    def __init__(self, findings: Sequence[Finding], total: int | None = None, *, counted: bool = True) -> None:
        self.findings = tuple(findings)
        self.total = len(self.findings) if total is None else total
        self.counted = counted
        super().__init__(self.message)

    @property
    def reason(self) -> Reason:
        """Reason of the first finding, which decides the status code."""
        return self.findings[0].reason

    @property
    def message(self) -> str:
        """The first finding's message, and how many more there are."""
        first = self.findings[0].message
        if self.total == 1:
            return first
        return f"{first} (and {'' if self.counted else 'at least '}{self.total - 1} more)"


class Findings:
    """Collects what is wrong with a request, so that a caller learns of all of it at once."""

    def __init__(self) -> None:
        self._told: list[Finding] = []
        self._total = 0
        self._stopped = False

    def are_enough(self) -> bool:
        """Whether there are so many that whoever looks for them stops, where each look takes long."""
        self._stopped = self._total >= ENOUGH
        return self._stopped

    def another(self) -> bool:
        """Count one more; whether it is to be told, so that its text is worth making.

        Raises:
            Refusal: There are as many as are counted at most.
        """
        if self._total == MOST:
            self._stopped = True
            self.check()
        self._total += 1
        return self._total <= MAX_FINDINGS

    def tell(self, reason: Reason, message: str, path: str, **metadata: object) -> None:
        """Say what the one just counted is."""
        texts = {key: str(value) for key, value in metadata.items()}
        self._told.append(Finding(reason=reason, message=message, path=path, metadata=texts))

    def add(self, reason: Reason, message: str, path: str, **metadata: object) -> None:
        """Count one more, and tell it if it is among the first."""
        if self.another():
            self.tell(reason, message, path, **metadata)

    def check(self) -> None:
        """Go on if nothing was wrong.

        Raises:
            Refusal: with everything that was found.
        """
        if self._total:
            raise Refusal(self._told, self._total, counted=not self._stopped)


def refuse(reason: Reason, message: str, path: str = "", **metadata: object) -> Refusal:
    """A refusal with one finding, to be raised."""
    texts = {key: str(value) for key, value in metadata.items()}
    return Refusal([Finding(reason=reason, message=message, path=path, metadata=texts)])


def shown(text: str, limit: int = 64) -> str:
    """A caller's text for a message or a log: quoted, unprintable characters escaped, at most ``limit`` long."""
    cut = text[:limit]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f'"{escaped[:limit]}"' + ("..." if len(text) > limit or len(escaped) > limit else "")
