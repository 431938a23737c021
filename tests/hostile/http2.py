"""HTTP/2 frame by frame: what no client of gRPC would send."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hpack

from tests.integration.raw import SERVICE
from tests.integration.server_process import DEADLINE

HEADERS, GOAWAY, END_STREAM = 1, 7, 1
"""Kinds of frames, and the flag of the last one of a stream."""

PAUSE = 0.02
"""Seconds between two things that are done while nothing comes."""


class Connection:
    """A connection that was opened well; what is sent on it from then on may be anything."""

    def __init__(self, address: str, window: int | None = None) -> None:
        """``window`` is what the server may send on a stream before some of it is read, in bytes."""
        host, _, port = address.rpartition(":")
        self.authority = address
        self.socket = socket.create_connection((host, int(port)), DEADLINE)
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
        )
        self.http: Any = h2.connection.H2Connection(config)
        if window is not None:
            values = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.http.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.http.initiate_connection()
        self.flush()

    def headers(self, method: str, more: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
        """Those of a call of a method of the service."""
        fixed = [(":method", "POST"), (":scheme", "http"), (":path", f"/{SERVICE}/{method}")]
        fixed += [(":authority", self.authority), ("te", "trailers"), ("content-type", "application/grpc")]
        return [*fixed, *more]

    def call(self, method: str, more: Iterable[tuple[str, str]] = ()) -> int:
        """Begin a call; gives its stream."""
        stream: int = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, self.headers(method, more))
        self.flush()
        return stream

    def message(self, stream: int, raw: bytes, *, end: bool = True, compressed: bool = False) -> None:
        """Send a message of gRPC."""
        self.http.send_data(stream, bytes([compressed]) + len(raw).to_bytes(4, "big") + raw, end_stream=end)
        self.flush()

    def flush(self) -> None:
        """Put on the wire what is to be sent."""
        self.socket.sendall(self.http.data_to_send())

    def events(self, meanwhile: Callable[[], object] | None = None) -> Iterator[Any]:
        """What the server sends, until it closes the connection; ``meanwhile`` is done again and again until then."""
        self.socket.settimeout(DEADLINE if meanwhile is None else PAUSE)
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return
            except TimeoutError:
                if meanwhile is None:
                    raise
                meanwhile()
                continue
            if not data:
                return
            yield from self.http.receive_data(data)
            self.flush()

    def trailers(self, stream: int, meanwhile: Callable[[], object] | None = None) -> dict[str, str]:
        """How the call ends."""
        found: dict[str, str] = {}
        for event in self.events(meanwhile):
            if isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionAbortedError(event.error_code, event.additional_data)
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                found |= {str(key): str(value) for key, value in event.headers}
            if isinstance(event, h2.events.StreamReset):
                return found | {"reset": str(event.error_code)}
            if isinstance(event, h2.events.StreamEnded):
                return found
        raise ConnectionAbortedError

    def unacknowledged(self) -> Iterator[tuple[int, dict[str, str]]]:
        """How calls end that were begun frame by frame: the stream of each, with its trailers.

        Nothing that the server sends is acknowledged meanwhile, neither its settings nor a ping.
        """
        decoder = hpack.Decoder()
        while True:
            header = self._exactly(9)
            payload = self._exactly(int.from_bytes(header[:3], "big"))
            if header[3] == GOAWAY:
                raise ConnectionAbortedError(payload)
            if header[3] == HEADERS:
                found = {str(key): str(value) for key, value in decoder.decode(payload)}
                if header[4] & END_STREAM:
                    yield int.from_bytes(header[5:], "big"), found

    def _exactly(self, size: int) -> bytes:
        """The next bytes that the server sends."""
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionAbortedError
            data += piece
        return data


@contextmanager
def connected(address: str, window: int | None = None) -> Iterator[Connection]:
    """An open connection, closed at the end."""
    connection = Connection(address, window)
    try:
        yield connection
    finally:
        connection.socket.close()


def literal(headers: list[tuple[str, str]]) -> bytes:
    """Headers as they travel, not abbreviated."""
    return bytes(hpack.Encoder().encode(headers, huffman=False))


def frame(kind: int, payload: bytes, stream: int = 1, flags: int = 0) -> bytes:
    """A frame of a stream: of headers (1) that go on (9), of which the last has a flag (4)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def frames_of_headers(headers: list[tuple[str, str]], stream: int) -> bytes:
    """The frames that begin a call, whatever its headers take."""
    raw = literal(headers)
    pieces = [raw[start : start + 16_384] for start in range(0, len(raw), 16_384)]
    last = len(pieces) - 1
    return b"".join(
        frame(9 if number else 1, piece, stream, 4 if number == last else 0) for number, piece in enumerate(pieces)
    )
