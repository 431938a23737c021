"""Others that are measured, each in a process of its own: services on loopback, and libraries (``with_...``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

READY = b"serving on "
"""What a server's ready line has before the address, which ends at a comma or with the line."""


@contextmanager
def serving(module: str, *arguments: str, standard_input: bytes = b"") -> Iterator[str]:
    """Run ``python -m module`` and give the address it serves on; it ends with the block.

    Raises:
        RuntimeError: if it ends before it is ready.
    """
    with running((sys.executable, "-m", module, *arguments), standard_input) as server:
        yield server.address


class Server(NamedTuple):
    """A server that runs."""

    address: str
    pid: int

    def seconds(self) -> float:
        """Processor time that its threads have taken, from the kernel's own clock of each."""
        taken = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat")]
        return sum(int(text.split()[0]) for text in taken) / 1e9


@contextmanager
def running(command: Sequence[str], standard_input: bytes = b"") -> Iterator[Server]:
    """Run a command that serves; it ends with the block.

    Raises:
        RuntimeError: if it ends before it is ready.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin:
                process.stdin.write(standard_input)
            yield Server(_address(process.stdout, command), process.pid)
        finally:
            process.terminate()


def _address(output: IO[bytes], command: Sequence[str]) -> str:
    for line in output:
        _, ready, rest = line.partition(READY)
        if ready:
            return rest.partition(b",")[0].strip().decode()
    raise RuntimeError(f"{' '.join(command)} ended before it was ready")
