"""One of several processes that share a port."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import values

from gradwire_server import logs
from gradwire_server.configuration.settings import Settings
from gradwire_server.service.process.server import serve


def run(number: int, settings: Settings, tell_serving: Callable[[], None]) -> None:
    """Serve under this number until a signal ends it.

    Raises:
        StartError: if it cannot serve here.
    """
    logs.configure(settings.log_level, settings.log_format, worker=number)
    # Whoever tidies up temporary files may have taken it for one.
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(0o700, exist_ok=True)
    # By number: a worker goes on counting where the one before it was ended.
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # it has no annotations
    serve(settings, tell_serving)
