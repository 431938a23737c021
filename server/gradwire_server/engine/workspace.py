"""Storage that evaluations take one after another, with the views of it that they have made."""

from __future__ import annotations

from gradwire_server.engine.graph import Array
from gradwire_server.engine.job import Job
from gradwire_server.engine.memory import UNSET, Arena, Stored
from gradwire_server.engine.program import Program


class Room:
    """Storage for the examples of one block after another, which one thread at a time uses.

    Args:
        job: The first that it is for.
        shared: Values that examples share.
    """

    def __init__(self, job: Job, shared: Arena) -> None:
        plan, dtype = job.plan, job.query.dtype
        self.lanes = job.lanes_at_once
        self.own = Arena(plan.lanes.values, self.lanes, dtype)
        self.own_adjoints = Arena(plan.lanes.adjoints, self.lanes, dtype)
        self.values: Stored[Array] = Stored(UNSET, self.own, shared)
        self.adjoints: Stored[Array | None] = Stored(None, self.own_adjoints)
        self._sums: Arena | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        return self.own.nbytes + self.own_adjoints.nbytes

    def open(self, lanes: int, sums: Arena, lanes_of_sums: int) -> None:
        """Have so many lanes, and the gradients of what examples share in ``sums``."""
        if lanes != self.lanes:
            self.lanes = lanes
            self.own.open(lanes)
            self.own_adjoints.open(lanes)
            self.values.clear()
            self._sums = None
        if sums.lanes != lanes_of_sums:
            sums.open(lanes_of_sums)
            self._sums = None
        if sums is not self._sums:
            self._sums = sums
            self.adjoints = Stored(None, self.own_adjoints, sums)


class Workspace:
    """The storage of one evaluation at a time.

    Args:
        job: The first that it is for; others of the same plan may follow.
    """

    def __init__(self, job: Job) -> None:
        self.plan, self.dtype, self.lanes = job.plan, job.query.dtype, job.lanes_at_once
        self.shared = Arena(self.plan.shared.values, 1, self.dtype)
        self.values: Stored[Array] = Stored(UNSET, self.shared)
        """Of what examples share."""
        self.idle_rooms: list[Room] = []
        self.idle_sums: list[Arena] = []
        """Room for the gradients of what examples share."""
        self._total: Arena | None = None
        self._adjoints: Stored[Array | None] = Stored(None)

    @classmethod
    def of(cls, job: Job) -> Workspace:
        """That which the job's program has idle, if the job fits in, or a new one."""
        try:
            idle = job.program.idle.pop()
        except IndexError:
            return cls(job)
        fitting = idle.plan is job.plan and idle.dtype == job.query.dtype and idle.lanes == job.lanes_at_once
        return idle if fitting else cls(job)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        rooms, sums = sum(room.nbytes for room in self.idle_rooms), sum(sums.nbytes for sums in self.idle_sums)
        return self.shared.nbytes + rooms + sums

    def room(self, job: Job) -> Room:
        """One for a block, that is idle or new; to be given back to ``idle_rooms``."""
        try:
            return self.idle_rooms.pop()
        except IndexError:
            return Room(job, self.shared)

    def sums(self, job: Job) -> Arena:
        """One for gradients of what examples share, for ``idle_sums``."""
        try:
            return self.idle_sums.pop()
        except IndexError:
            lanes = self.lanes if job.per_example_gradients else 1
            return Arena(self.plan.shared.adjoints, lanes, self.dtype)

    def adjoints(self, total: Arena) -> Stored[Array | None]:
        """The gradients that are in ``total``, by node."""
        if total is not self._total:
            self._total, self._adjoints = total, Stored(None, total)
        return self._adjoints

    def leave(self, program: Program) -> None:
        """Let the next evaluation have it, without what it knows of this one."""
        self.values.given = {}
        for room in self.idle_rooms:
            room.values.given = {}
            for node in self.plan.streamed:
                room.values.pop(node, None)
            for node in self.plan.direct:
                room.adjoints.pop(node, None)
        program.idle[:] = (self,)
