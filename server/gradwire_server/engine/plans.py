"""Plans that were made, kept for later requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Lock

from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.plan import Plan

PATIENCE = 0.05
"""Seconds between the checkpoints of who waits for others' plans."""


class Plans:
    """Plans by what is asked, so many at most; the least recently used ones go first. Safe to share among threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, Plan] = OrderedDict()
        self._making = Lock()

    def get(self, asked: Hashable, make: Callable[[], Plan], checkpoint: Checkpoint) -> Plan:
        """The plan for what is asked, made if it is not there; raises what ``make`` and ``checkpoint`` raise."""
        plan = self._find(asked)
        if plan is not None:
            return plan
        # What takes long to make should not be made by several threads at a time.
        while not self._making.acquire(timeout=PATIENCE):
            checkpoint()
        try:
            plan = self._find(asked)
            if plan is None:
                plan = self._kept[asked] = make()
                while len(self._kept) > self.most:
                    self._kept.popitem(last=False)
            return plan
        finally:
            self._making.release()

    def _find(self, asked: Hashable) -> Plan | None:
        plan = self._kept.get(asked)
        if plan is not None:
            # It may be gone by now.
            with suppress(KeyError):
                self._kept.move_to_end(asked)
        return plan
