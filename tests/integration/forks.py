"""The process that servers and commands of the tests are forked from: it has imported what they import, and waits.

A test's server takes the tenth of a second then that a worker of a server takes, rather than seconds; what it does from
its arguments on, and its end, are those of one that Python starts. gRPC has not run here, nor is there a thread.
"""

from __future__ import annotations

import os
import pickle
import runpy
import signal
import socket
import sys
from importlib import import_module

MODULES = (
    "gradwire_server.command.cli",
    *(f"gradwire_server.command.{name}" for name in ("asking", "benching", "checking", "converting", "explaining")),
    "gradwire_server.service.process.server",
    "gradwire_server.service.process.supervisor",
)

REQUEST = 1 << 17
"""Bytes that one request may take."""


def main() -> None:
    """Fork what is asked for over a socket, of which the argument is the number, until it closes."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as the command has it, before gRPC is imported
    for name in MODULES:
        import_module(name)
    from gradwire_server import codec, engine  # noqa: PLC0415  (after the above)

    engine.warm(further=codec.warm)
    commands = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, streams, _, _ = socket.recv_fds(commands, REQUEST, 3)
        if not message:
            return
        if _fork(commands):
            break
        for stream in streams:
            os.close(stream)
    commands.close()
    _become(message, streams)


def _fork(commands: socket.socket) -> bool:
    """Fork a process whose parent ends at once, so that whoever asks inherits it; whether this is that process."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.waitpid(child, 0)
        # Not before: who asks inherits only while it waits for this.
        commands.send(os.read(reading, 16))
    elif child := os.fork():
        os.write(writing, str(child).encode())
        os._exit(0)
    os.close(reading)
    os.close(writing)
    return child == 0


def _become(message: bytes, streams: list[int]) -> None:
    """Run what is asked for, as ``python -m`` would."""
    module, arguments, folder, environment = pickle.loads(message)  # noqa: S301  (of the tests)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
