"""The real server, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self
from urllib.request import ProxyHandler, build_opener

READY = re.compile(r"gradwire serving on (\S+:(\d+)), metrics on (\S+)\n")

DEADLINE = 30.0
"""Seconds after which a process that should have ended counts as hanging."""


@dataclass
class ServerProcess:
    """A server on free ports of the loopback, as a context manager; it ends with the block."""

    flags: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    module: str = "gradwire_server"
    """What Python runs."""
    port: int = 0
    metrics_port: int = 0
    address: str = field(default="", init=False)
    metrics_url: str = field(default="", init=False)
    process: subprocess.Popen[str] = field(init=False)
    _log: IO[str] = field(default_factory=lambda: TemporaryFile("w+"), init=False)  # noqa: SIM115  (closed at exit)

    def start(self) -> None:
        """Start it, on the ports that it had before if it is started again."""
        command = [
            *(sys.executable, "-m", self.module, "serve"),
            *(f"--port={self.port}", f"--metrics-port={self.metrics_port}", *self.flags),
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=self.environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        ready = READY.fullmatch(line)
        if ready is None:
            raise AssertionError(f"no ready line but {line!r}, exit code {self.wait()}; {self.log}")
        self.address, self.port, self.metrics_url = ready[1], int(ready[2]), ready[3]
        self.metrics_port = int(self.metrics_url.split(":")[2].split("/")[0])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode

    @property
    def log(self) -> str:
        """What it wrote to stderr."""
        file = self._log.fileno()
        # Where it goes on to write is where this file stands: reading must not move that.
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def log_of(self, request_id: str) -> str:
        """What it wrote to stderr about a call, with traces as one reads them."""
        return "\n".join(line.replace("\\n", "\n") for line in self.log.splitlines() if request_id in line)

    def metrics(self) -> str:
        """The page that Prometheus reads."""
        with build_opener(ProxyHandler({})).open(self.metrics_url, timeout=DEADLINE) as response:
            text: str = response.read().decode()
        return text

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        self._log.close()
