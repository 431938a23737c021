"""One of several processes that share a port; it ends with the supervisor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from select import poll
from shutil import rmtree
from socket import socket
from threading import Thread

from prometheus_client import values

from gradwire_server import logs
from gradwire_server.service.server import serve
from gradwire_server.settings import Settings, StartError


def run(number: int, settings: Settings, supervisor: socket, tell_serving: Callable[[], None]) -> None:
    """Serve under this number until a signal ends it, or until the other end of the supervisor's socket closes."""
    Thread(target=_end_with, args=(supervisor,), name="supervisor", daemon=True).start()
    logs.configure(settings.log_level, settings.log_format, worker=number)
    # By number: a worker goes on counting where the one before it was ended.
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # it has no annotations
    try:
        serve(settings, tell_serving)
    except StartError as error:
        print(f"gradwire: {error}", file=sys.stderr)  # noqa: T201  (for the person at the terminal)
        sys.exit(1)


def _end_with(supervisor: socket) -> None:
    """End at once when it does; whoever waits for an answer asks again."""
    closing = poll()
    # That the other end closes is told in any case; what comes through it is for the fork server.
    closing.register(supervisor, 0)
    closing.poll()
    rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    os._exit(1)
