"""``python -m gradwire_server.warming``: compiles all kernels, so that nobody waits for them later."""

from __future__ import annotations

from gradwire_server import codec
from gradwire_server.engine.machine.__main__ import main

if __name__ == "__main__":
    main(codec.warm)
