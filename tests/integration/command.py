"""Commands of this project in processes of their own, forked from one that has imported what they need."""

from __future__ import annotations

import atexit
import ctypes
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from threading import Lock
from typing import Any

from gradwire_server.service.process.supervisor import PR_SET_CHILD_SUBREAPER
from tests.integration import forks

ROOT = Path(__file__).parents[2]

OURS = "GRADWIRE_"
"""What the names of variables begin with that are read when a command runs; others may be read by imports."""


def begin(
    *arguments: str,
    module: str = "gradwire_server",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **streams: Any,
) -> Popen[str]:
    """A process of ``python -m``, whose streams are those of ``Popen``; a child of this one however it is begun."""
    here, there = dict(os.environ), dict(os.environ if environment is None else environment)
    if all(name.startswith(OURS) for name, _ in here.items() ^ there.items()):
        return _Forked([module, *arguments], cwd=folder, env=there, text=True, **streams)
    return Popen([sys.executable, "-m", module, *arguments], cwd=folder, env=there, text=True, **streams)


def run(*arguments: str, **options: Any) -> CompletedProcess[str]:
    """What ``python -m`` writes, and the code with which it ends; options are those of ``begin``."""
    with begin(*arguments, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, **options) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            raise
    return CompletedProcess(arguments, process.returncode, output, errors)


class _Forks:
    def __init__(self) -> None:
        self._commands, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = Lock()
        with theirs:
            command = [sys.executable, "-m", forks.__name__, str(theirs.fileno())]
            self._process = Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        atexit.register(self._end)

    def ask(self, what: object, streams: list[int]) -> int:
        """Have it forked with these streams; gives the id of the process, which is a child of this one."""
        with self._lock, _inheriting():
            socket.send_fds(self._commands, [pickle.dumps(what)], streams)
            return int(self._commands.recv(16))

    def _end(self) -> None:
        self._commands.close()
        self._process.wait()


@cache
def _forking() -> _Forks:
    return _Forks()


@contextmanager
def _inheriting() -> Iterator[None]:
    """A process whose parent ends meanwhile becomes a child of this one, if it descends from it."""
    process = ctypes.CDLL(None, use_errno=True)
    process.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        process.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class _Forked(Popen[str]):
    def _execute_child(self, *given: Any) -> None:
        # In place of its parent's, which starts a program; that has opened the streams, and will wait for the child.
        [module, *arguments], folder, environment, pipes = given[0], given[5], given[6], given[10:16]
        streams = [number if theirs == -1 else theirs for number, theirs in enumerate((pipes[0], pipes[3], pipes[5]))]
        own: Any = self  # what its parent has for itself
        own.pid = _forking().ask((module, arguments, str(folder or Path.cwd()), environment), streams)
        own._child_created = True  # noqa: SLF001  (as above)
        own._close_pipe_fds(*pipes)  # noqa: SLF001  (as above)
