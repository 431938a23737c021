"""One of several processes that share a port; the supervisor starts it, and it ends with the supervisor."""

from __future__ import annotations

import os
import sys
from shutil import rmtree
from threading import Thread

from prometheus_client import values

from gradwire_server import logs
from gradwire_server.settings import Settings, StartError

READY = "ready\n"
"""What it writes to stdout, the supervisor's pipe, when it serves."""


def main() -> None:
    """Serve under the number in the arguments, with the settings on the first line of stdin."""
    slot, settings = int(sys.argv[1]), Settings.model_validate_json(sys.stdin.readline())
    Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    logs.configure(settings.log_level, settings.log_format, worker=slot)
    # By number: a worker goes on counting where the one before it was ended. What is imported next makes metrics.
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]  # it has no annotations
    from gradwire_server.service.server import serve  # noqa: PLC0415  (see above)

    try:
        serve(settings, shares=True)
    except StartError as error:
        print(f"gradwire: {error}", file=sys.stderr)  # noqa: T201  (for the person at the terminal)
        sys.exit(1)


def _end_with_supervisor() -> None:
    """End at once when the other end of stdin does; whoever waits for an answer asks again."""
    os.read(sys.stdin.fileno(), 1)
    rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
