"""A large call: 64 MB of parameters there, and 64 MB of gradients back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

import gradwire as gw
from gradwire.v1.frames import CHUNK_BYTES, chunk_frame
from tests.benchmarks.peers import serving
from tests.benchmarks.peers.echo import METHOD, STREAM
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave
from tests.benchmarks.unary import SERVE, Stream

ELEMENTS = 8_000_000
UNLIMITED = {"grpc.max_send_message_length": 1 << 30, "grpc.max_receive_message_length": 1 << 30}
LARGE = {
    "grpc.http2.max_frame_size": 1 << 20,
    "grpc.http2.lookahead_bytes": 16 << 20,
    "grpc.http2.write_buffer_size": 8 << 20,
    "grpc.http2.bdp_probe": 0,
}
"""What SDK and server set for large messages."""


def compare() -> Iterator[Row]:
    """The stream, which also computes, against a bare echo of its frames, and one in a message with gRPC's defaults."""
    w = gw.parameter("w", shape=(ELEMENTS,))
    parameters = np.random.default_rng(0).normal(size=ELEMENTS)
    message = parameters.tobytes()
    frames = [chunk_frame(1, memoryview(message)[at : at + CHUNK_BYTES]) for at in range(0, len(message), CHUNK_BYTES)]
    options, fast = ([f"{name}={value}" for name, value in own.items()] for own in (UNLIMITED, LARGE))
    with (
        serving(*SERVE) as address,
        gw.connect(address) as client,
        client.stream(gw.dot(w, w)) as stream,
        serving("tests.benchmarks.peers.echo", *options) as echo_address,
        grpc.insecure_channel(echo_address, list(UNLIMITED.items())) as channel,
        serving("tests.benchmarks.peers.echo", *fast) as fast_address,
        grpc.insecure_channel(fast_address, list(LARGE.items())) as fast_channel,
    ):
        _, gradients = stream(w=parameters)
        np.testing.assert_array_equal(gradients["w"], 2 * parameters)
        echo: Any = channel.unary_unary(METHOD)
        framed = Stream(fast_channel, STREAM, *frames)
        timings = interleave(
            {"stream": lambda: stream(w=parameters), "echo of the frames": framed, "unary echo": lambda: echo(message)},
            seconds=20,
        )
        framed.close()
    yield from rows("64 MB there and back", timings, "stream", {"echo of the frames": 0.95, "unary echo": None})
