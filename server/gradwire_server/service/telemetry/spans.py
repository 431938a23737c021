"""Spans of the parts of a call's work; ``otel`` says who wants them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_NOTHING = nullcontext()


class Spans:
    """Where spans go; nowhere, unless there is a tracer."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None

    def part(self, name: str) -> AbstractContextManager[object]:
        """A span for a part of what is done for the call that is under way here."""
        return _NOTHING if self.tracer is None else self.tracer.start_as_current_span(name)


SPANS = Spans()
"""The spans of this process."""
