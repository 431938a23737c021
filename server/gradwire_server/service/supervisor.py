"""Several server processes on one port, watched over by a parent that serves nothing but metrics.

It does not fork them itself: the process that does has to be without threads. So there is little in the parent that
could break, and a worker that replaces another begins as the first one did.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Coroutine
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gradwire_server.service import forkserver
from gradwire_server.service.addresses import announce, bracketed, reserve, serve_metrics
from gradwire_server.settings import Settings, StartError

SETTLED = 1.0
"""Seconds of serving after which the end of a worker is no sign that the next one will end as well."""

FREE_RESTARTS, FIRST_PAUSE, LONGEST_PAUSE = 3, 0.5, 30.0
"""Unsettled workers in a row that are replaced at once; seconds before the next one, doubled each time, at most."""

MARGIN = 10.0
"""Seconds beyond their own time that workers have to drain."""


@dataclass(slots=True)
class _Slot:
    """A worker's place: one process after another."""

    number: int
    pid: int | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether its process serves."""
    unsettled: int = 0
    """Processes in a row that did not last."""

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal, if it has one."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Supervisor:
    """The parent of the workers."""

    def __init__(self, settings: Settings, folder: str) -> None:
        self._settings = settings
        self._folder = folder
        """Where the workers write their metrics."""
        self._slots = [_Slot(number) for number in range(settings.workers)]
        self._started = False
        """Whether all of them served at one time."""
        self._stop = asyncio.Event()
        self._commands, self._asked = socket.socketpair()
        """By which the fork server is asked for workers. What it has not read when it ends, the next one reads."""
        self._fork_server: asyncio.subprocess.Process | None = None
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, folder)  # type: ignore[no-untyped-call]  # it has no annotations
        self._restarts = Counter(
            "gradwire_worker_restarts", "Workers started in the place of others that ended.", registry=self._registry
        )
        serving = Gauge("gradwire_workers_serving", "Workers that serve.", registry=self._registry)
        serving.set_function(lambda: sum(slot.ready.is_set() for slot in self._slots))
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Keep the workers until SIGTERM or SIGINT, then have them drain.

        Raises:
            StartError: if an address is taken or cannot be had, or a worker does not start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        with reserve(self._settings) as kept, self._commands:
            port = kept.getsockname()[1]
            self._settings = self._settings.model_copy(update={"port": port})
            metrics_url = serve_metrics(self._settings, self._registry, self._is_ready)
            forks = self._watched(self._keep_fork_server(self._told()))
            keepers: list[asyncio.Task[None]] = []
            # What is wrong with the settings the first one tells; the others would say the same.
            for slots in (self._slots[:1], self._slots[1:]):
                keepers += [self._watched(self._keep(slot)) for slot in slots]
                for slot in slots:
                    await self._until(slot.ready)
            if not self._stop.is_set():
                self._started = True
                announce(f"{bracketed(self._settings.host)}:{port}", metrics_url)
                await self._stop.wait()
            await self._drain(forks, keepers)

    def _watched(self, keeping: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task with whose end the workers are to stop: nobody would replace what ends any longer."""
        task = asyncio.create_task(keeping)
        task.add_done_callback(lambda _: self._stop.set())
        return task

    def _told(self) -> bytes:
        """The settings, as the fork server reads them.

        Raises:
            StartError: if one of them cannot be written.
        """
        try:
            return self._settings.model_dump_json().encode()
        except ValueError as error:
            raise StartError(f"several workers cannot be told a setting: {error}") from None

    def _is_ready(self) -> bool:
        """Whether calls find a worker, and may go on to come."""
        return self._started and not self._stop.is_set() and any(slot.ready.is_set() for slot in self._slots)

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for an event, or until the workers are to stop."""
        waits = [asyncio.create_task(each.wait()) for each in (event, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _drain(self, forks: asyncio.Task[None], keepers: list[asyncio.Task[None]]) -> None:
        self._log.info("draining", workers=len(keepers))
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

    async def _keep_fork_server(self, told: bytes) -> None:
        """Have one until the workers are to stop; those that one has forked live on without it.

        Raises:
            StartError: if the first one does not start.
        """
        failed = 0
        while not self._stop.is_set():
            start = monotonic()
            try:
                ended = await self._one_fork_server(told)
            except OSError as error:
                ended = str(error)
            if self._stop.is_set():
                return
            if not self._started:
                self._stop.set()
                raise StartError(f"no worker started; the process that forks them ended with {ended}")
            failed = 0 if monotonic() - start > SETTLED else failed + 1
            self._log.error("the process that forks workers ended; another one takes its place", ended=ended)
            await self._rest(_pause(failed))

    async def _one_fork_server(self, told: bytes) -> str:
        """Have one process; says how it ended.

        Raises:
            OSError: if it cannot be started.
        """
        process = self._fork_server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", forkserver.__name__, str(self._asked.fileno())),
            stdin=PIPE,
            pass_fds=[self._asked.fileno()],
            # With threads of BLAS it could not fork.
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._folder, "OPENBLAS_NUM_THREADS": "1"},
            # A terminal tells the parent alone of Ctrl-C.
            start_new_session=True,
        )
        if self._stop.is_set():
            process.kill()
        await process.communicate(told)
        return _ending(await process.wait())

    async def _keep(self, slot: _Slot) -> None:
        """Have a worker in this place until they are to stop.

        Raises:
            StartError: if the first one does not start.
        """
        while not self._stop.is_set():
            try:
                lasted, code = await self._serve(slot)
            except OSError as error:
                self._log.error("a worker could not be asked for", worker=slot.number, error=str(error))
                lasted, code = 0.0, None
            mark_process_dead(slot.number, self._folder)  # type: ignore[no-untyped-call]  # as above
            if self._stop.is_set():
                return
            if not self._started:
                self._stop.set()
                raise StartError(f"worker {slot.number} did not start; it ended with {_ending(code)}")
            self._restarts.inc()
            # Whoever kills one that serves does not mean the next.
            is_settled = lasted > SETTLED or (lasted > 0 and code == -signal.SIGKILL)
            slot.unsettled = 0 if is_settled else slot.unsettled + 1
            pause = _pause(slot.unsettled)
            tell = self._log.error if pause else self._log.warning
            tell("worker ended; another one takes its place", worker=slot.number, ended=_ending(code), pause=pause)
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the workers are to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _serve(self, slot: _Slot) -> tuple[float, int | None]:
        """Have one process; the seconds that it served, and its exit code, if there was somebody to learn it."""
        start, lasted, code = 0.0, 0.0, None
        async for line in _lines(forkserver.ask(self._commands, slot.number)):
            match line.decode().split():
                case [forkserver.PID, pid]:
                    slot.pid = int(pid)
                    if self._stop.is_set():
                        slot.send(signal.SIGTERM)
                case [forkserver.SERVES]:
                    start = monotonic()
                    slot.ready.set()
                case [forkserver.CODE, found]:
                    code = int(found)
        if slot.ready.is_set():
            lasted = monotonic() - start
        slot.ready.clear()
        slot.pid = None
        return lasted, code


async def _lines(pipe: int) -> AsyncIterator[bytes]:
    """What comes through a pipe, until it ends."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        partial(asyncio.StreamReaderProtocol, reader), os.fdopen(pipe, "rb", 0)
    )
    with closing(transport):
        async for line in reader:
            yield line


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
    # In memory where there is such a folder, also where the rest of the disk is read-only.
    memory = Path("/dev/shm")  # noqa: S108  (made with a random name)
    where = memory if os.access(memory, os.W_OK) else None
    with TemporaryDirectory(prefix="gradwire-", dir=where) as folder:
        asyncio.run(_supervise(settings, folder))


async def _supervise(settings: Settings, folder: str) -> None:
    await Supervisor(settings, folder).run()
