"""Connections and calls that break the rules of HTTP/2 or gRPC, or bend them: the others do not notice.

What gRPC itself refuses has its own words. What it cannot read, of headers or of compression, it answers with INTERNAL,
and to the server it is a call that was cancelled.
"""

from __future__ import annotations

import gzip
import socket
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
import h2.errors
import h2.events
import pytest

from tests.hostile.http2 import connected, frame, frames_of_headers, literal
from tests.hostile.memory import growth
from tests.hostile.messages import valid
from tests.hostile.test_refused import handled
from tests.integration.raw import Refused, channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.waiting import eventually

PROMPTLY = 60.0
METHOD = "ComputeGradients"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def check_serving(server: ServerProcess) -> None:
    """A caller who comes now is answered."""
    with channel(server.address) as opened:
        assert isinstance(send(opened, METHOD, valid(), timeout=PROMPTLY), bytes)


async def all_handled(server: ServerProcess) -> Counter[str]:
    """What was handled, once nothing else is: a call is counted after its answer was sent."""
    started = f'grpc_server_started_total{{grpc_method="{METHOD}"'

    def over() -> bool:
        begun = sum(count for name, count in series(server).items() if name.startswith(started))
        return begun == sum(count for name, count in handled(server).items() if name.startswith(METHOD))

    await eventually(over)
    return handled(server)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 10_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        PREFACE + b"\xff" * 1000,
        PREFACE + b"\0\0\x06\x04\0\0\0\0\0\0\x04\xff\xff\xff\xff",
        PREFACE + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",
        PREFACE + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x05\x01\x04\0\0\0\x02AAAAA",
    ],
    ids=[
        "noise",
        "http-1",
        "tls",
        "noise-after-the-preface",
        "window-of-4-gigabytes",
        "window-by-nothing",
        "even-stream",
    ],
)
def test_garbage_on_the_port_closes_its_connection(server: ServerProcess, sent: bytes) -> None:
    host, _, port = server.address.rpartition(":")
    with (
        growth(server.process.pid) as taken,
        socket.create_connection((host, int(port)), PROMPTLY) as other,
        suppress(ConnectionError),
    ):
        other.sendall(sent)
        while other.recv(1 << 16):
            pass
    assert taken.nbytes < 16 << 20
    check_serving(server)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "3", ("before its message",)),
        (b"\0\0", "3", ("before its message",)),
        (b"\0\0\0\0\x05ab", "3", ("before its message",)),
        (b"\0\xff\xff\xff\xff", "8", ("larger than max", "4294967295")),
        (b"\1\0\0\0\x02ab", "13", ("Compression",)),
    ],
    ids=["none", "half-a-length", "half-a-message", "4-gigabytes-announced", "compressed-in-no-way"],
)
def test_a_call_without_a_whole_message_is_told_so(
    server: ServerProcess, data: bytes, code: str, words: tuple[str, ...]
) -> None:
    for method in ("GetServerInfo", METHOD):
        with connected(server.address) as connection:
            stream = connection.call(method)
            connection.http.send_data(stream, data, end_stream=True)
            connection.flush()
            told = connection.trailers(stream)
            assert told["grpc-status"] == code
            assert [word for word in words if word not in told["grpc-message"]] == []
    check_serving(server)


@pytest.mark.parametrize(
    ("header", "raw", "words"),
    [
        (("grpc-encoding", "snappy"), valid(), "grpc-encoding"),
        (("grpc-encoding", "gzip"), b"\xff" * 50, "Decompression failed"),
        (("grpc-encoding", "gzip"), gzip.compress(valid())[:-9], "Decompression failed"),
        (("grpc-timeout", "soon"), valid(), "grpc-timeout"),
    ],
    ids=["unknown-encoding", "no-gzip", "half-of-gzip", "timeout"],
)
async def test_what_grpc_cannot_read_is_named(
    server: ServerProcess, header: tuple[str, str], raw: bytes, words: str
) -> None:
    before, compressed = await all_handled(server), header[0] == "grpc-encoding"
    with connected(server.address) as connection:
        stream = connection.call(METHOD, [header])
        connection.message(stream, raw, compressed=compressed)
        told = connection.trailers(stream)
        assert (told["grpc-status"], "x-request-id" in told) == ("13", False)
        assert words in told["grpc-message"]
        stream = connection.call(METHOD)
        connection.message(stream, valid())
        assert connection.trailers(stream)["grpc-status"] == "0"
    # Nothing is wrong with the server, and its metrics do not say so.
    await eventually(lambda: handled(server) - before == {f"{METHOD} Canceled": 1, f"{METHOD} OK": 1})
    assert "internal error" not in server.log


@pytest.mark.parametrize("size", [20_000, 70_000])
def test_metadata_beyond_the_limit_is_refused_and_the_connection_lives(raw: grpc.Channel, size: int) -> None:
    call: Any = raw.unary_unary(f"/gradwire.v1.GradientService/{METHOD}")
    with pytest.raises(grpc.RpcError, match=r"metadata size exceeds.* limit") as raised:
        call(valid(), metadata=(("x-large", "x" * size),), timeout=PROMPTLY)
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(send(raw, METHOD, valid(), timeout=PROMPTLY), bytes)


@pytest.mark.parametrize("method", [METHOD, "StreamGradients", "Nothing"])
@pytest.mark.parametrize("size", [17_000, 60_000])
def test_a_client_that_does_not_know_the_limit_of_metadata_is_told(
    server: ServerProcess, method: str, size: int
) -> None:
    with connected(server.address) as connection:
        # It has read nothing of the server yet, and acknowledged nothing.
        stream = connection.call(method, [("x-large", "x" * size)])
        told = connection.trailers(stream)
    assert told["grpc-status"] == "8"
    assert "at most 16384" in told["grpc-message"]
    check_serving(server)


async def test_metadata_of_a_client_that_acknowledges_no_limit_takes_no_memory() -> None:
    calls, size = 100, 1_000_000
    # Of its own, so that what others did is not counted.
    with ServerProcess() as server, connected(server.address) as connection:
        check_serving(server)
        before = await all_handled(server)
        headers = [*connection.headers(METHOD), ("x-large", "x" * size)]
        ends = connection.unacknowledged()
        with growth(server.process.pid) as taken:
            for stream in range(1, 2 * calls, 2):
                connection.socket.sendall(frames_of_headers(headers, stream))
                ended, trailers = next(ends)
                assert (ended, trailers["grpc-status"]) == (stream, "8")
        assert taken.nbytes < calls * size / 3
        await eventually(lambda: handled(server) - before == {f"{METHOD} ResourceExhausted": calls})
        check_serving(server)


def test_headers_without_end_take_little_memory(server: ServerProcess) -> None:
    piece = literal([(f"key{number}", "v" * 40) for number in range(200)])
    with growth(server.process.pid) as taken, connected(server.address) as connection:
        connection.socket.sendall(frame(1, literal(connection.headers(METHOD))))
        sent = 0
        for _ in range(2000):
            try:
                connection.socket.sendall(frame(9, piece))
            except ConnectionError:
                break
            sent += len(piece)
    assert taken.nbytes < (32 << 20) + 4 * sent
    check_serving(server)


def test_pings_without_end_close_their_connection(server: ServerProcess) -> None:
    with connected(server.address) as connection, suppress(ConnectionError):  # it may close before that is read
        for _ in range(5000):
            connection.http.ping(b"01234567")
            connection.flush()
        last = [event for event in connection.events() if isinstance(event, h2.events.ConnectionTerminated)]
        assert last[0].additional_data == b"too_many_pings"
    check_serving(server)


def test_a_deadline_that_has_passed_starts_nothing(server: ServerProcess) -> None:
    before, raw = examples(server), valid()
    with connected(server.address) as connection:
        stream = connection.call(METHOD, [("grpc-timeout", "1n")])
        # gRPC makes a millisecond of it, in which a small request may be answered; one without its last byte is not.
        connection.http.send_data(stream, bytes(1) + len(raw).to_bytes(4, "big") + raw[:-1])
        connection.flush()
        assert connection.trailers(stream)["grpc-status"] == "4"
    assert examples(server) == before
    check_serving(server)


def examples(server: ServerProcess) -> str:
    [line] = [line for line in server.metrics().splitlines() if line.startswith("gradwire_examples_processed_total ")]
    return line


def test_another_encoding_of_the_message_is_taken_as_it_is_announced(raw: grpc.Channel) -> None:
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert isinstance(send(raw, METHOD, valid(), compression=compression), bytes)


def test_a_message_of_its_own_length_in_gzip_is_no_bomb(raw: grpc.Channel) -> None:
    answer = send(raw, METHOD, b"\xff" * 1000, compression=grpc.Compression.Gzip)
    assert isinstance(answer, Refused)
    assert answer.reason == "MALFORMED_MESSAGE"
