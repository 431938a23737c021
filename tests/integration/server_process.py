"""The real server, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self
from urllib.request import ProxyHandler, build_opener

import psutil

from tests.integration.command import begin

READY = re.compile(r"gradwire serving on (\S+:(\d+)), metrics on (\S+)\n")

DEADLINE = 120.0
"""Seconds after which a process that should have ended counts as hanging, on a busy machine too."""

PAGES_HOST = "127.0.0.2"
"""Where a server that is only begun has its metrics and probes, so that they can be told from its calls."""


@contextmanager
def beginning(*flags: str, line: str = 'exec "$@"', environment: dict[str, str] | None = None) -> Iterator[Popen[str]]:
    """A server that nobody waits for, begun by a line of the shell; it ends with the block, however that ends."""
    command = [sys.executable, "-m", "gradwire_server", "serve", "--port=0", "--metrics-port=0"]
    with Popen(
        ["/bin/sh", "-c", line, "sh", *command, f"--metrics-host={PAGES_HOST}", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def compiling(folder: Path, *flags: str) -> Iterator[Popen[str]]:
    """A server that has no kernels and has begun to compile them, in this folder."""
    # Nothing is cached for a processor that nobody has.
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(folder)}
    with beginning(*flags, environment=environment) as process:
        assert process.stderr is not None
        assert "compiling kernels" in process.stderr.readline()
        yield process


def listening(process: Popen[str], host: str = "127.0.0.1") -> int:
    """The port on which a server that has not said it yet, or one of its workers, listens; waits until there is one."""
    server = psutil.Process(process.pid)
    while True:
        assert process.poll() is None
        for each in (server, *server.children()):
            with suppress(psutil.NoSuchProcess):
                # gRPC has sockets of both families, where it is ::ffff:127.0.0.1.
                for found in each.net_connections("tcp"):
                    if found.status == psutil.CONN_LISTEN and found.laddr.ip.endswith(host):
                        return int(found.laddr.port)


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
    process: Popen[str] = field(init=False)
    _log: IO[str] = field(default_factory=lambda: TemporaryFile("w+"), init=False)  # noqa: SIM115  (closed at exit)

    def start(self) -> None:
        """Start it, on the ports that it had before if it is started again."""
        self.process = begin(
            *("serve", f"--port={self.port}", f"--metrics-port={self.metrics_port}", *self.flags),
            module=self.module,
            environment=self.environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
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
