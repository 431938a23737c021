"""Several server processes on one port, watched over by a parent that serves nothing but metrics.

It does not fork them itself: the process that does has to be without threads. So there is little in the parent that
could break, and a worker that replaces another begins as the first one did. They are its children all the same: it
inherits them at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from gradwire_server.configuration.settings import Settings, StartError
from gradwire_server.service.process import forkserver
from gradwire_server.service.process.addresses import announce, bracketed, reserve, serve_metrics
from gradwire_server.service.telemetry.numbers import Sums
from gradwire_server.service.telemetry.processes import Processes

SETTLED, FORKS_SETTLED = 1.0, 300.0
"""Seconds after which the end of a worker that serves, or of the process that forks them, is no sign that the next one
will end as well. The latter may fail after it has compiled for a minute."""

FREE_RESTARTS, FIRST_PAUSE, LONGEST_PAUSE = 3, 0.5, 30.0
"""Unsettled ones in a row that are replaced at once; seconds before the next one, doubled each time, at most."""

PR_SET_CHILD_SUBREAPER = 36
"""The number that Linux has in sys/prctl.h."""

SILENCE, SILENCES = 20.0, 2
"""Seconds in which nothing comes from a worker, or from the process that forks them, which tell every second that they
serve, and how often in a row before it is ended: the first time all may have stood still together, as in a container
that is paused."""

ROOM = 256 << 10
"""Bytes that the metrics of a worker take, all of which are there from the start, and some more."""

MARGIN = 10.0
"""Seconds beyond their own time that workers have to drain."""


@dataclass(slots=True)
class _Slot:
    """A worker's place: one process after another."""

    number: int
    pid: int | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether its process serves."""
    served: bool = False
    """Whether one of its processes did."""
    unsettled: int = 0
    """Processes in a row that did not last."""

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal, if it has one."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Supervisor:
    """The parent of the workers."""

    def __init__(self, settings: Settings, folder: str, stop: asyncio.Event) -> None:
        self._settings = settings
        self._folder = folder
        """Where the workers write their metrics."""
        self._slots = [_Slot(number) for number in range(settings.workers)]
        self._stop = stop
        self._commands, self._asked = socket.socketpair()
        """By which the fork server is asked for workers. What it has not read when it ends, the next one reads."""
        self._fork_server: asyncio.subprocess.Process | None = None
        self._registry = CollectorRegistry()
        self._sums = Sums(Path(folder), self._registry)
        Processes(self._pids, self._registry)
        self._restarts = Counter(
            "gradwire_worker_restarts", "Workers started in the place of others that ended.", registry=self._registry
        )
        serving = Gauge("gradwire_workers_serving", "Workers that serve.", registry=self._registry)
        serving.set_function(lambda: sum(slot.ready.is_set() for slot in self._slots))
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Keep the workers until they are to stop, then have them drain.

        Raises:
            StartError: if an address is taken or cannot be had, or a worker does not start.
        """
        with reserve(self._settings) as kept, self._commands:
            port = kept.getsockname()[1]
            self._settings = self._settings.model_copy(update={"port": port})
            metrics_url = serve_metrics(self._settings, self._registry, self._is_ready)
            forks = self._watched(self._keep_fork_server())
            keepers: list[asyncio.Task[None]] = []
            # What is wrong with the settings the first one tells; the others would say the same.
            for slots in (self._slots[:1], self._slots[1:]):
                keepers += [self._watched(self._keep(slot)) for slot in slots]
                for slot in slots:
                    await self._until(slot.ready)
            if not self._stop.is_set():
                announce(f"{bracketed(self._settings.host)}:{port}", metrics_url)
                await self._stop.wait()
                self._log.info("draining", workers=len(keepers))
            await self._drain(forks, keepers)

    def _watched(self, keeping: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task with whose end the workers are to stop: nobody would replace what ends any longer."""
        task = asyncio.create_task(keeping)
        task.add_done_callback(lambda _: self._stop.set())
        return task

    def _pids(self) -> dict[str, int]:
        """The processes that there are, by the names that the system knows them by."""
        found = {"gradwire": os.getpid()}
        if self._fork_server is not None and self._fork_server.returncode is None:
            found["gradwire-forks"] = self._fork_server.pid
        return found | {f"gradwire-{slot.number}": slot.pid for slot in self._slots if slot.pid is not None}

    def _is_ready(self) -> bool:
        """Whether calls find a worker, and may go on to come."""
        return not self._stop.is_set() and any(slot.ready.is_set() for slot in self._slots)

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for an event, or until the workers are to stop."""
        waits = [asyncio.create_task(each.wait()) for each in (event, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _drain(self, forks: asyncio.Task[None], keepers: list[asyncio.Task[None]]) -> None:
        for slot in self._slots:
            slot.send(signal.SIGTERM)
        # There are no more workers to come, and those that there are need it no more.
        self._asked.close()
        if self._fork_server is not None and self._fork_server.returncode is None:
            self._fork_server.kill()
        await forks
        _, late = await asyncio.wait(keepers, timeout=self._settings.announce + self._settings.grace + MARGIN)
        if late:
            self._log.error("workers did not end within their grace time and are killed", workers=len(late))
        for slot in self._slots:
            slot.send(signal.SIGKILL)
        await asyncio.gather(*keepers)
        self._log.info("stopped")

    async def _keep_fork_server(self) -> None:
        """Have one until the workers are to stop; those that one has forked live on without it.

        Raises:
            StartError: if the first one ends before a worker served.
        """
        failed = 0
        while not self._stop.is_set():
            start = monotonic()
            try:
                ended = await self._one_fork_server()
            except OSError as error:
                ended = str(error)
            if self._stop.is_set():
                return
            if not any(slot.served for slot in self._slots):
                self._stop.set()
                raise StartError(f"no worker started, since the process that forks them ended: {ended}")
            failed = 0 if monotonic() - start > FORKS_SETTLED else failed + 1
            pause = _pause(failed)
            self._log.error(
                "the process that forks workers ended; another one takes its place", ended=ended, pause=pause
            )
            await self._rest(pause)

    async def _one_fork_server(self) -> str:
        """Have one process; says how it ended.

        Raises:
            OSError: if it cannot be started.
        """
        reading, writing = forkserver.telling()
        async with _reading(reading) as lines:
            try:
                process = self._fork_server = await asyncio.create_subprocess_exec(
                    # Not from the working folder: what is imported is what the parent would import.
                    *(sys.executable, "-P", "-m", forkserver.__name__, str(self._asked.fileno()), str(writing)),
                    stdin=PIPE,
                    pass_fds=[self._asked.fileno(), writing],
                    # With threads of BLAS it could not fork.
                    env={**os.environ, forkserver.FOLDER: self._folder, "OPENBLAS_NUM_THREADS": "1"},
                    # A terminal tells the parent alone of Ctrl-C.
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            if self._stop.is_set():
                process.kill()
            # As they are, whatever becomes of the environment's files.
            given = asyncio.create_task(process.communicate(pickle.dumps(self._settings)))
            cause = ""
            next_line: Callable[[], Awaitable[bytes]] = lines.readline
            while line := await next_line():
                match line.decode().rstrip().split(" ", 1):
                    case [forkserver.SERVES]:
                        # It may compile for a minute before.
                        next_line = partial(self._next, lines, process.kill, "the process that forks workers")
                    case [forkserver.FAILED, told]:
                        cause = told
            await given
        return cause or _ending(await process.wait())

    async def _keep(self, slot: _Slot) -> None:
        """Have a worker in this place until they are to stop.

        Raises:
            StartError: if the first one does not start.
        """
        while not self._stop.is_set():
            try:
                lasted, code, cause = await self._serve(slot)
            except OSError as error:
                lasted, code, cause = 0.0, None, f"a worker could not be asked for: {error.strerror}"
            self._sums.forget(slot.number)
            if self._stop.is_set():
                return
            ended = cause or _ending(code)
            if not slot.served:
                self._stop.set()
                raise StartError(cause or f"worker {slot.number} did not start; it ended with {ended}")
            self._restarts.inc()
            # Whoever kills one that serves does not mean the next.
            is_settled = lasted > SETTLED or (lasted > 0 and code == -signal.SIGKILL)
            slot.unsettled = 0 if is_settled else slot.unsettled + 1
            pause = _pause(slot.unsettled)
            tell = self._log.error if pause else self._log.warning
            tell("worker ended; another one takes its place", worker=slot.number, ended=ended, pause=pause)
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the workers are to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _serve(self, slot: _Slot) -> tuple[float, int | None, str]:
        """Have one process; the seconds that it served, its exit code if it can be known, what it says is wrong."""
        start, lasted, code, cause = 0.0, 0.0, None, ""
        async with _reading(forkserver.ask(self._commands, slot.number)) as lines:
            next_line: Callable[[], Awaitable[bytes]] = lines.readline
            while line := await next_line():
                match line.decode().rstrip().split(" ", 1):
                    case [forkserver.PID, pid]:
                        slot.pid = int(pid)
                        kill = partial(slot.send, signal.SIGKILL)
                        next_line = partial(self._next, lines, kill, "worker", worker=slot.number)
                        if self._stop.is_set():
                            slot.send(signal.SIGTERM)
                    case [forkserver.SERVES] if not slot.ready.is_set():
                        start = monotonic()
                        slot.served = True
                        slot.ready.set()
                    case [forkserver.FAILED, told]:
                        cause = told
        if slot.pid is not None:
            code = _exit_code(slot.pid)
        if slot.ready.is_set():
            lasted = monotonic() - start
        slot.ready.clear()
        slot.pid = None
        return lasted, code, cause

    async def _next(self, lines: asyncio.StreamReader, kill: Callable[[], None], name: str, **labels: int) -> bytes:
        """The next line of a process, which is killed if it stands still; nothing if there is none."""
        for _ in range(SILENCES):
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE):
                    return await lines.readline()
        self._log.error(f"{name} stands still and is killed", **labels, seconds=SILENCES * SILENCE)
        kill()
        return await lines.readline()


@asynccontextmanager
async def _reading(pipe: int) -> AsyncIterator[asyncio.StreamReader]:
    """What comes through a pipe."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        partial(asyncio.StreamReaderProtocol, reader), os.fdopen(pipe, "rb", 0)
    )
    with closing(transport):
        yield reader


def _exit_code(pid: int) -> int | None:
    """That of a process that has ended, on a system where it was inherited."""
    with suppress(ChildProcessError):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None


def _pause(unsettled: int) -> float:
    """Seconds to wait after so many workers in a row that did not last."""
    return 0 if unsettled <= FREE_RESTARTS else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (unsettled - FREE_RESTARTS - 1))


def _ending(code: int | None) -> str:
    if code is None:
        return "an exit code that nobody learnt"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def supervise(settings: Settings) -> None:
    """Serve in several processes until a signal ends them.

    Raises:
        StartError: if they cannot serve here.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
    if sys.platform == "linux":
        # As the first process of a container does it: inherit children of processes that end.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    asyncio.run(_supervise(settings))


async def _supervise(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _folder(settings.workers) as folder:
        await Supervisor(settings, folder, stop).run()


def _folder(workers: int) -> TemporaryDirectory[str]:
    # In memory where there is such a folder, also where the rest of the disk is read-only.
    memory = Path("/dev/shm")  # noqa: S108  (made with a random name)
    try:
        # A worker that writes where there is no room gets no error, but SIGBUS.
        roomy = os.access(memory, os.W_OK) and disk_usage(memory).free >= workers * ROOM
        return TemporaryDirectory(prefix="gradwire-", dir=memory if roomy else None)
    except OSError as error:
        raise StartError(f"several workers need a folder for their metrics: {error.strerror} (TMPDIR)") from None
