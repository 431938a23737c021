"""One of several processes that share a port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradwire_server import logs
from gradwire_server.configuration.settings import Settings
from gradwire_server.service.process.server import Worker, serve
from gradwire_server.service.telemetry.numbers import file_of


def run(number: int, settings: Settings, folder: Path, tell_serving: Callable[[], None]) -> None:
    """Serve under this number until a signal ends it; ``folder`` has the metrics of all workers.

    Raises:
        StartError: if it cannot serve here.
    """
    logs.configure(settings.log_level, settings.log_format, worker=number)
    # Whoever tidies up temporary files may have taken it for one.
    folder.mkdir(0o700, exist_ok=True)
    # By number: a worker goes on counting where the one before it was ended.
    serve(settings, Worker(tell_serving, file_of(folder, number)))
