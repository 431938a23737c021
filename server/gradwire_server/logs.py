"""Logs: one line an event on stderr."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from io import FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Lossy(FileIO):
    """A file of which what cannot be written is lost, as on a disk that is full: no work ends for want of a log."""

    def write(self, data: ReadableBuffer, /) -> int:
        with suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def configure(level: str, form: Literal["text", "json"] | None = None, **bound: object) -> None:
    """Send the events of this package, and those of the libraries, to stderr from this level on.

    Args:
        level: The least one.
        form: Of a line. Default: text where a person is looking, JSON elsewhere.
        **bound: What every event says too.
    """

    def bind(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, **bound}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        bind,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    stderr = TextIOWrapper(
        _Lossy(sys.stderr.fileno(), "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )
    terminal = stderr.isatty()
    text = form == "text" or (form is None and terminal)
    # Other traces show the values of variables.
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)
        if text
        else structlog.processors.JSONRenderer()
    )
    trace = [] if text else [structlog.processors.format_exc_info]
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *trace, last],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        # Each line at once, among those of other workers.
        logger_factory=structlog.WriteLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *trace, last],
        )
    )
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    # What Python would write to stderr by itself.
    logging.captureWarnings(True)
    threading.excepthook = lambda found: _tell_of_fault(found.exc_value)
    sys.unraisablehook = lambda found: _tell_of_fault(found.exc_value)


def _tell_of_fault(error: BaseException | None) -> None:
    structlog.get_logger().error("internal error", exc_info=error)
