"""A server as ``python -m gradwire_server`` that waits less long for workers of which it hears nothing."""

from __future__ import annotations

from gradwire_server import __main__
from gradwire_server.service.process import supervisor

if __name__ == "__main__":
    supervisor.SILENCE = 5.0
    __main__.main()
