"""Stopping the machine: one integer in memory, set by whoever finds that nobody waits any longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, unhurried

INTERVAL = 0.02
"""Seconds between two looks."""


class Watch:
    """A thread that calls the checkpoints of long requests, and stops those of which one raises."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._running: dict[int, tuple[NDArray[np.int64], Checkpoint]] = {}
        self._raised: dict[int, BaseException] = {}
        self._numbers = count()
        self._thread: Thread | None = None

    @contextmanager
    def stopping(self, flag: NDArray[np.int64], checkpoint: Checkpoint) -> Iterator[None]:
        """Have ``flag`` set to 1 when the checkpoint raises, which is raised in the end.

        Raises:
            BaseException: what ``checkpoint`` raised.
        """
        checkpoint()
        if checkpoint is unhurried:
            yield
            return
        number = next(self._numbers)
        with self._changed:
            self._running[number] = flag, checkpoint
            if self._thread is None or not self._thread.is_alive():
                # A fork has no threads but the one that made it.
                self._thread = Thread(target=self._look, name="gradwire-watch", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._running.pop(number, None)
                error = self._raised.pop(number, None)
        if error is not None:
            raise error

    def _look(self) -> None:
        while True:
            with self._changed:
                while not self._running:
                    self._changed.wait()
                for number, (flag, checkpoint) in list(self._running.items()):
                    try:
                        checkpoint()
                    except BaseException as error:  # noqa: BLE001  (whoever waits raises it)
                        self._raised[number] = error.with_traceback(None)
                        flag[0] = 1
                        del self._running[number]
                self._changed.wait(INTERVAL)


WATCH = Watch()
"""The watch of the process."""
