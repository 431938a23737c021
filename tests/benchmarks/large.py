"""A large call: 64 MB of parameters there, and 64 MB of gradients back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

import gradwire as gw
from tests.benchmarks.peers import serving
from tests.benchmarks.peers.echo import METHOD
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave
from tests.benchmarks.unary import SERVE

ELEMENTS = 8_000_000
UNLIMITED = {"grpc.max_send_message_length": 1 << 30, "grpc.max_receive_message_length": 1 << 30}


def compare() -> Iterator[Row]:
    """The stream, which also computes, against one unary echo of as many bytes with gRPC's defaults."""
    w = gw.parameter("w", shape=(ELEMENTS,))
    parameters = np.random.default_rng(0).normal(size=ELEMENTS)
    message = parameters.tobytes()
    options = [f"{name}={value}" for name, value in UNLIMITED.items()]
    with (
        serving(*SERVE) as address,
        gw.connect(address) as client,
        client.stream(gw.dot(w, w)) as stream,
        serving("tests.benchmarks.peers.echo", *options) as echo_address,
        grpc.insecure_channel(echo_address, list(UNLIMITED.items())) as channel,
    ):
        _, gradients = stream(w=parameters)
        np.testing.assert_array_equal(gradients["w"], 2 * parameters)
        echo: Any = channel.unary_unary(METHOD)
        timings = interleave(
            {"stream": lambda: stream(w=parameters), "unary echo": lambda: echo(message)},
            seconds=20,
        )
    yield from rows("64 MB there and back", timings, "stream", {"unary echo": 5.0})
