"""What the server has taken on, and what it turns away at once because it is busy."""

from __future__ import annotations

from dataclasses import dataclass

from gradwire_server.configuration.limits import Resource, ServiceLimits
from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.capacity.caller import SHUTTING_DOWN, Caller
from gradwire_server.service.capacity.turned_away import TurnedAway
from gradwire_server.service.telemetry.metrics import Metrics

SETTINGS = {
    Resource.CALLS: "max_calls",
    Resource.REQUESTS: "max_requests",
    Resource.BYTES: "max_bytes_in_flight",
    Resource.MEMORY: "max_memory_in_flight",
}
"""The limit of each."""

UNITS = {
    Resource.CALLS: "{} open calls",
    Resource.REQUESTS: "{} requests",
    Resource.BYTES: "requests and responses of {} bytes",
    Resource.MEMORY: "computations that take {} bytes",
}


_COUNTED = tuple(resource for resource in Resource if resource is not Resource.CALLS)
"""What a request holds. Calls are counted apart, which takes every one of them next to no time."""


@dataclass(slots=True)
class _Held:
    """What one request has."""

    requests: int = 0
    bytes: int = 0
    memory: int = 0


class Admission:
    """The requests in flight, and what they hold. Used on the event loop alone."""

    def __init__(self, limits: ServiceLimits, metrics: Metrics) -> None:
        self._limits = {resource: getattr(limits, setting) for resource, setting in SETTINGS.items()}
        self._metrics = metrics
        self._held: dict[Caller, _Held] = {}
        self._totals: dict[Resource, int] = dict.fromkeys(_COUNTED, 0)
        self._calls, self._max_calls, self._max_requests = 0, limits.max_calls, limits.max_requests
        self._turned_away = TurnedAway("busy: turned requests away, for want of", "warning")
        self.full = {
            resource: self._overloaded(resource, self._limits[resource], 1)
            for resource in (Resource.CALLS, Resource.REQUESTS)
        }
        """Why one more is refused while there are as many as there may be."""

    @property
    def in_flight(self) -> int:
        """Requests that are worked on or wait for a thread."""
        return self._totals[Resource.REQUESTS]

    def open(self) -> None:
        """A call begins, of whatever method; its message may be still to come."""
        self._calls += 1

    def close(self) -> None:
        """A call has ended."""
        self._calls -= 1

    def turns_away(self, *, admitted: bool) -> Resource | None:
        """Why a call that comes now is to be refused as ``full`` says, if it is; it counts as turned away then.

        Only if it is to be ``admitted`` requests count too.
        """
        if self._calls >= self._max_calls:
            self._count_turned_away(Resource.CALLS)
            return Resource.CALLS
        if admitted and self._totals[Resource.REQUESTS] >= self._max_requests:
            self._count_turned_away(Resource.REQUESTS)
            return Resource.REQUESTS
        return None

    def check(self, caller: Caller) -> None:
        """Go on if there is room for one more request; what is done at once takes none.

        Raises:
            Refusal: OVERLOADED; CANCELLED or DEADLINE_EXCEEDED if nobody waits for the result.
        """
        caller.checkpoint()
        if self._totals[Resource.REQUESTS] >= self._limits[Resource.REQUESTS]:
            raise self._refusal(Resource.REQUESTS, 1)

    def admit(self, caller: Caller, nbytes: int = 0) -> None:
        """Begin a request of so many bytes, beside those that were received for it already. Raises as ``check``."""
        self._take(caller, Resource.REQUESTS, 1)
        self._take(caller, Resource.BYTES, nbytes)

    def receive(self, caller: Caller, nbytes: int) -> None:
        """Take more bytes of a request.

        Raises:
            Refusal: OVERLOADED, or LIMIT_EXCEEDED if they are too many for any time.
        """
        self._take(caller, Resource.BYTES, nbytes)

    def reserve(self, caller: Caller, memory: int, reply: int = 0) -> None:
        """Take the memory that the work for a request needs, and the bytes of its response. Raises as ``receive``."""
        self._take(caller, Resource.MEMORY, memory)
        self._take(caller, Resource.BYTES, reply)

    def reserve_in_place(self, caller: Caller, memory: int, reply: int) -> None:
        """Take the same for a response that takes the place of its request, whose results it is. Raises as above."""
        held = self._held.get(caller)
        self.reserve(caller, memory, max(0, reply - (0 if held is None else held.bytes)))

    def give_back(self, caller: Caller, memory: int) -> None:
        """Return what was reserved for a part of the work that is over."""
        self._add(caller, Resource.MEMORY, -memory)

    def answered(self, caller: Caller, nbytes: int) -> None:
        """All that a request holds from now on is its response, of so many bytes, which is on its way.

        Raises:
            Refusal: as ``receive`` does, if more of them are to be held than were reserved.
        """
        self.release(caller)
        self._take(caller, Resource.BYTES, nbytes)

    def release(self, caller: Caller) -> None:
        """End a request; work for it that still runs stops at its next checkpoint."""
        held = self._held.pop(caller, None)
        if held is None:
            return
        caller.dismiss(Reason.CANCELLED, "the caller gave up")
        for resource in _COUNTED:
            amount = getattr(held, resource)
            if amount:
                self._set(resource, self._totals[resource] - amount)

    def give_up(self) -> None:
        """Have all work stop at its next checkpoint."""
        for caller in self._held:
            caller.dismiss(Reason.SHUTTING_DOWN, SHUTTING_DOWN)

    def tell(self) -> None:
        """Log what was turned away and not told yet."""
        self._turned_away.tell()

    def _take(self, caller: Caller, resource: Resource, amount: int) -> None:
        if self._totals[resource] + amount > self._limits[resource]:
            own = getattr(self._held.get(caller), resource, 0) + amount
            self.release(caller)
            raise self._refusal(resource, own)
        self._add(caller, resource, amount)

    def _add(self, caller: Caller, resource: Resource, amount: int) -> None:
        held = self._held.setdefault(caller, _Held())
        setattr(held, resource, getattr(held, resource) + amount)
        self._set(resource, self._totals[resource] + amount)

    def _set(self, resource: Resource, total: int) -> None:
        self._totals[resource] = total
        self._metrics.in_flight[resource].set(total)

    def _refusal(self, resource: Resource, own: int) -> Refusal:
        """The refusal of a request that takes so much, which is not in the totals."""
        found, limit, setting = self._totals[resource], self._limits[resource], SETTINGS[resource]
        if own > limit:
            return refuse(
                Reason.LIMIT_EXCEEDED,
                f"the server takes {UNITS[resource].format(limit)} at a time ({setting}), and this is one of {own}; "
                "send fewer examples at a time, or a smaller graph",
                found=found + own,
                limit=limit,
                setting=setting,
            )
        self._count_turned_away(resource)
        return self._overloaded(resource, found, own)

    def _overloaded(self, resource: Resource, found: int, own: int) -> Refusal:
        limit, setting = self._limits[resource], SETTINGS[resource]
        return refuse(
            Reason.OVERLOADED,
            f"the server is busy with {UNITS[resource].format(found)}, and takes no more than {limit} at a time "
            f"({setting}); try again later",
            found=found + own,
            limit=limit,
            setting=setting,
        )

    def _count_turned_away(self, resource: Resource) -> None:
        self._metrics.turned_away(resource)
        self._turned_away.count(resource.value)
