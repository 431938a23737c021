"""Rooms that no request uses: a new one costs fresh pages, which may take longer than the request."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from gradwire_server.engine.run.job import Bound
from gradwire_server.engine.run.room import Room

IDLE_BYTES = 64 << 20
"""Bytes that idle rooms of a process may take together."""


class IdleRooms:
    """Idle rooms of all programs; those that were used last stay. Safe to share among threads."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._rooms: OrderedDict[Room, Bound] = OrderedDict()
        self._lock = Lock()

    def take(self, bound: Bound) -> Room:
        """A room for a request of this kind, to be kept again after it, or not."""
        with self._lock:
            if bound.rooms:
                room = bound.rooms.pop()
                del self._rooms[room]
                self._left += room.nbytes
                return room
        return bound.new_room()

    def keep(self, bound: Bound, room: Room) -> None:
        """Keep a room for the next request of this kind, unless it alone takes more than rooms may."""
        if room.nbytes > self._most:
            return
        with self._lock:
            bound.rooms.append(room)
            self._rooms[room] = bound
            self._left -= room.nbytes
            while self._left < 0:
                oldest, owner = self._rooms.popitem(last=False)
                owner.rooms.remove(oldest)
                self._left += oldest.nbytes

    def clear(self) -> None:
        """Give up all of them."""
        with self._lock:
            for room, owner in self._rooms.items():
                owner.rooms.remove(room)
                self._left += room.nbytes
            self._rooms.clear()


IDLE_ROOMS = IdleRooms(IDLE_BYTES)
"""The process has one, as it has one memory."""
