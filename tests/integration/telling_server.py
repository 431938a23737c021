"""A server as ``python -m gradwire_server`` that says at its end how long a thread of it may hold Python."""

from __future__ import annotations

import atexit
import sys

from gradwire_server import __main__

if __name__ == "__main__":
    atexit.register(lambda: print("switches after", sys.getswitchinterval(), file=sys.stderr))  # noqa: T201
    __main__.main()
