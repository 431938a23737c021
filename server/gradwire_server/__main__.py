"""The command ``gradwire``, and ``python -m gradwire_server``."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command."""
    _open_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        # While all is imported: Python would print a trace, and the first process of a container not end at all.
        signal.signal(number, lambda number, _: os._exit(128 + number))
    # gRPC reads this when it is imported. What it would print stands in our messages already.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from gradwire_server.command import cli  # noqa: PLC0415  (after the above)

    cli.main()


def _open_streams() -> None:
    """Have all standard streams: in place of one that is closed, whatever is opened first would be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free, which is its own.
            stream = open(os.devnull, mode)  # noqa: PTH123, SIM115  (open for good)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


if __name__ == "__main__":
    main()
