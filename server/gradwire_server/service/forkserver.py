"""The process that workers are forked from: it has imported what they need, loaded the kernels, and does nothing else.

So a worker serves a tenth of a second after it is asked for, and shares that memory with the others. gRPC does not
survive a fork once it has run, and threads never do: here neither runs.

The supervisor asks over a socket, with the number of a worker and a pipe. Lines on the pipe tell of the worker, and it
ends when the worker has ended, also where this process ended before.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from select import select
from struct import Struct

import structlog

from gradwire_server import logs
from gradwire_server.settings import Settings

PID, SERVES, CODE = "pid", "serves", "code"
"""What the lines begin with: its process id; that it serves, and nothing more; its exit code."""

_NUMBER = Struct("=i")


def ask(commands: socket.socket, number: int) -> int:
    """Have a worker forked; gives the end of its pipe from which to read, whenever there is somebody to fork it."""
    reading, writing = os.pipe()
    socket.send_fds(commands, [_NUMBER.pack(number)], [writing])
    os.close(writing)
    return reading


def main() -> None:
    """Fork workers that are asked for over the socket in the arguments, with the settings on stdin, until it closes."""
    settings = Settings.model_validate_json(sys.stdin.readline())
    commands = socket.socket(fileno=int(sys.argv[1]))
    # Workers have their own time to end; whoever signals all processes of a service does not cut it short.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)
    logs.configure(settings.log_level, settings.log_format)
    from gradwire_server import engine  # noqa: PLC0415  (the supervisor asks, and needs nothing of it)
    from gradwire_server.service import worker  # noqa: PLC0415  (as above)

    engine.warm(_tell_of_compiling)
    gc.freeze()
    ends, pipes = _ends_of_children(), dict[int, int]()
    while True:
        ready, _, _ = select([commands, ends], [], [])
        if ends in ready:
            ends.recv(1 << 10)
            _tell_of_ends(pipes)
        if commands in ready:
            message, [*received], _, _ = socket.recv_fds(commands, _NUMBER.size, 1)
            if not message:
                return
            pid = os.fork()
            if not pid:
                break
            pipes[pid] = received[0]
    _become_a_worker(pipes)
    _tell(received[0], PID, os.getpid())
    worker.run(_NUMBER.unpack(message)[0], settings, commands, lambda: _tell(received[0], SERVES))


def _tell_of_compiling() -> None:
    structlog.get_logger().info("compiling kernels; this takes up to a minute")


def _ends_of_children() -> socket.socket:
    """Where there is something to read when one has ended."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _tell_of_ends(pipes: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pipe = pipes.pop(ended[0])
            _tell(pipe, CODE, os.waitstatus_to_exitcode(ended[1]))
            os.close(pipe)


def _tell(pipe: int, *words: object) -> None:
    # The supervisor may be gone.
    with suppress(BrokenPipeError):
        os.write(pipe, " ".join(map(str, words)).encode() + b"\n")


def _become_a_worker(pipes: dict[int, int]) -> None:
    """Undo what is the parent's alone; the pipes of the others must end with them."""
    os.close(signal.set_wakeup_fd(-1))
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for pipe in pipes.values():
        os.close(pipe)


if __name__ == "__main__":
    main()
