"""The process that workers are forked from: it has imported what they need, loaded the kernels, and does nothing else.

So a worker serves a tenth of a second after it is asked for, and shares that memory with the others. gRPC does not
survive a fork once it has run, and threads never do: here neither runs.

The supervisor asks over a socket, with the number of a worker and a pipe. Lines on the pipe tell of the worker, and it
ends when the worker has ended, also where this process ended before. Lines on a pipe of its own tell of this process.
When the other end of the socket closes, the supervisor is gone, and this process and the workers end at once.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from select import poll
from shutil import rmtree
from struct import Struct
from threading import Thread

import structlog

from gradwire_server import logs
from gradwire_server.configuration.settings import Settings, StartError

PID, SERVES, FAILED = "pid", "serves", "failed"
"""What the lines begin with: its process id; that it serves, once a second, and nothing more; why it cannot."""

FOLDER = "GRADWIRE_WORKERS_METRICS"
"""The variable that names the folder in which workers have their metrics."""

_BEAT = 1.0
"""Seconds between two lines that say that it serves."""

_NUMBER = Struct("=i")


def telling() -> tuple[int, int]:
    """A pipe on which a process tells of itself: the end from which to read, and that of the process."""
    reading, writing = os.pipe()
    # Nobody waits for a supervisor that stands still.
    os.set_blocking(writing, False)
    return reading, writing


def ask(commands: socket.socket, number: int) -> int:
    """Have a worker forked; gives the end of its pipe from which to read, whenever there is somebody to fork it."""
    reading, writing = telling()
    socket.send_fds(commands, [_NUMBER.pack(number)], [writing])
    os.close(writing)
    return reading


def main() -> None:
    """Fork workers that are asked for over a socket, with the settings on stdin, until it closes.

    The arguments are the socket, and the pipe on which to tell of this process.
    """
    commands, own = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    # Workers have their own time to end; whoever signals all processes of a service does not cut it short.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)
    _be_called("gradwire-forks")
    with _ending_with(commands):
        settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301  (of the parent)
        logs.configure(settings.log_level, settings.log_format)
        try:
            from gradwire_server import codec, engine  # noqa: PLC0415  (the supervisor asks, and needs nothing of it)
            from gradwire_server.service.process import worker  # noqa: PLC0415  (as above)

            engine.warm(_tell_of_compiling, codec.warm)
        except (ImportError, MemoryError, OSError) as error:
            _tell(own, FAILED, f"{type(error).__name__}: {error}")
            sys.exit(1)
    gc.freeze()
    commands.settimeout(_BEAT)
    while True:
        _tell(own, SERVES)
        try:
            message, [*received], _, _ = socket.recv_fds(commands, _NUMBER.size, 1)
        except TimeoutError:
            continue
        if not message:
            _leave()
        [pipe] = received
        if _fork(pipe):
            break
        os.close(pipe)
    os.close(own)
    [number] = _NUMBER.unpack(message)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_DFL)
    _be_called(f"gradwire-{number}")
    _tell(pipe, PID, os.getpid())
    with _ending_with(commands):
        try:
            worker.run(number, settings, Path(os.environ[FOLDER]), partial(_tell, pipe, SERVES))
        except StartError as error:
            _tell(pipe, FAILED, error)
            sys.exit(1)


def _tell_of_compiling() -> None:
    structlog.get_logger().info("compiling kernels; this takes up to a minute")


def _fork(pipe: int) -> bool:
    """Fork a process whose parent ends at once, so that the supervisor inherits it; whether this is that process."""
    here = os.getpid()
    try:
        if child := os.fork():
            os.waitpid(child, 0)
        elif os.fork():
            os._exit(0)
        else:
            return True
    except OSError as error:
        _tell(pipe, FAILED, f"the system has no process for a worker: {error.strerror}")
        if os.getpid() != here:
            os._exit(1)
    return False


def _be_called(name: str) -> None:
    """Have another name than all others that Python runs, in the lists of processes and in what the kernel logs."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _tell(pipe: int, *words: object) -> None:
    # The supervisor may be gone, or stand still.
    with suppress(BrokenPipeError, BlockingIOError):
        line = " ".join(map(str, words)).replace("\n", " ")
        os.write(pipe, f"{line}\n".encode(errors="backslashreplace"))


@contextmanager
def _ending_with(supervisor: socket.socket) -> Iterator[None]:
    """End at once when the other end of this closes, whatever runs in the block; no thread is left after it."""
    over, ours = socket.socketpair()
    watch = Thread(target=_watch, args=(supervisor, over), name="supervisor", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ours.close()
        watch.join()
        over.close()


def _watch(supervisor: socket.socket, over: socket.socket) -> None:
    closing = poll()
    # That the other end closes is told in any case; what comes through it is not read here.
    for each in (supervisor, over):
        closing.register(each, 0)
    if supervisor.fileno() in dict(closing.poll()):
        _leave()


def _leave() -> None:
    """End, and leave nothing behind; whoever waits for an answer of a worker asks again."""
    rmtree(os.environ[FOLDER], ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
