"""Others that are measured, each in a process of its own: services on loopback, and libraries (``with_...``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

READY = b"serving on "
"""What a server's ready line has before the address, which ends at a comma or with the line."""


@contextmanager
def serving(module: str, *arguments: str, standard_input: bytes = b"") -> Iterator[str]:
    """Run ``python -m module`` and give the address it serves on; it ends with the block.

    Raises:
        RuntimeError: if it ends before it is ready.
    """
    command = (sys.executable, "-m", module, *arguments)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin:
                process.stdin.write(standard_input)
            yield _address(process.stdout, module)
        finally:
            process.terminate()


def _address(output: IO[bytes], module: str) -> str:
    for line in output:
        _, ready, rest = line.partition(READY)
        if ready:
            return rest.partition(b",")[0].strip().decode()
    raise RuntimeError(f"{module} ended before it was ready")
