"""A small call: the hinge loss on 256 x 32 examples, value and gradient."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
from pytensor_federated import ArraysToArraysServiceClient

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire.v1.gradient_service_pb2_grpc import GradientServiceStub
from tests.benchmarks.peers import hinge, serving
from tests.benchmarks.peers.echo import METHOD, STREAM
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave
from tests.losses import hinge as hinge_case

MOST = 60e-6
"""Seconds that the SDK may add to a call of the stub."""

WORK = "small unary call, hinge 256 x 32"
SERVE = ("gradwire_server", "serve", "--port=0", "--metrics-port=0", "--log-level=warning")


def compare() -> Iterator[Row]:
    """Against a bare echo of the same bytes, and the same job through the peers."""
    arrays = hinge.data()
    loss = hinge_case(features=hinge.FEATURES).loss
    with serving(*SERVE) as address, grpc.insecure_channel(address) as channel, gw.connect(address) as client:
        message = request(client.register(loss), arrays)
        stub: Any = GradientServiceStub(channel)
        reply = stub.ComputeGradients(message)
        _check(arrays, float(np.frombuffer(reply.loss.raw)[0]), np.frombuffer(reply.gradients["w"].raw))
        raw: Any = channel.unary_unary("/gradwire.v1.GradientService/ComputeGradients")
        sdk = client.value_and_grad(loss)
        outgoing = message.SerializeToString()
        with (
            serving("tests.benchmarks.peers.echo", standard_input=reply.SerializeToString()) as echo_address,
            grpc.insecure_channel(echo_address) as echo_channel,
            serving("tests.benchmarks.peers.federated") as federated_address,
        ):
            echo: Any = echo_channel.unary_unary(METHOD)
            timings = interleave(
                {
                    "bytes": lambda: raw(outgoing),
                    "SDK": lambda: sdk(arrays),
                    "echo": lambda: echo(outgoing),
                    "pytensor-federated": _federated(federated_address, arrays),
                },
                seconds=20,
            )
    yield from rows(WORK, timings, "bytes", {"echo": 0.78}, 1e-6)
    yield from rows(WORK, timings, "SDK", {"echo": None, "pytensor-federated": 3}, 1e-6)


def compare_sdk() -> Iterator[Row]:
    """What the SDK adds to a call of the stub with a message that is made already, for one array and for a pytree."""
    arrays = hinge.data()
    loss = hinge_case(features=hinge.FEATURES).loss

    def of_tree(params: Any, phi: Any, y: Any) -> gw.Expression:
        return gw.hinge_loss(gw.dot(params["w"], phi), y)

    with serving(*SERVE) as address, grpc.insecure_channel(address) as channel, gw.connect(address) as client:
        message = request(client.register(loss), arrays)
        stub: Any = GradientServiceStub(channel)
        sdk = client.value_and_grad(loss)
        step = client.value_and_grad(of_tree, per_example=("phi", "y"))
        tree = {"w": arrays["w"]}
        timings = interleave(
            {
                "stub": lambda: stub.ComputeGradients(message),
                "expression": lambda: sdk(arrays),
                "pytree": lambda: step(tree, phi=arrays["phi"], y=arrays["y"]),
            },
            seconds=15,
        )
    for name in ("expression", "pytree"):
        added = timings.seconds(name) - timings.seconds("stub")
        yield Row(
            work=f"what the SDK adds to a small call, {name}",
            ours=f"{added * 1e6:.3g} us",
            peer=f"stub {timings.seconds('stub') * 1e6:.3g} us; at most {MOST * 1e6:.0f} us",
            ratio=MOST / added,
            reach=1,
        )


def compare_stream() -> Iterator[Row]:
    """The same job in the messages of a stream, against a bare echo of the same messages."""
    arrays = hinge.data()
    with serving(*SERVE) as address, grpc.insecure_channel(address) as channel, gw.connect(address) as client:
        loss = hinge_case(features=hinge.FEATURES).loss
        head = pb.StreamRequestHead(request=request(client.register(loss), arrays))
        frame = pb.StreamGradientsRequest(head=head).SerializeToString()
        ours = Stream(channel, "/gradwire.v1.GradientService/StreamGradients", frame)
        answer = ours()
        reply = pb.StreamGradientsResponse.FromString(answer).head.response
        _check(arrays, float(np.frombuffer(reply.loss.raw)[0]), np.frombuffer(reply.gradients["w"].raw))
        with (
            serving("tests.benchmarks.peers.echo", standard_input=answer) as echo_address,
            grpc.insecure_channel(echo_address) as echo_channel,
            client.stream(loss) as sdk,
        ):
            echo = Stream(echo_channel, STREAM, frame)
            timings = interleave({"bytes": ours, "SDK": lambda: sdk(arrays), "echo": echo}, seconds=10)
            echo.close()
            ours.close()
    yield from rows("the same on a stream", timings, "bytes", {"echo": 0.75}, 1e-6)
    yield from rows("the same on a stream", timings, "SDK", {"echo": None}, 1e-6)


class Stream:
    """A stream on which some messages go there and as many come back, again and again."""

    def __init__(self, channel: grpc.Channel, method: str, *messages: bytes) -> None:
        self._messages = messages
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        call: Any = channel.stream_stream(method)
        self._answers = call(iter(self._outgoing.get, None))

    def __call__(self) -> bytes:
        """The answer to the last message."""
        for message in self._messages:
            self._outgoing.put(message)
        answer = b""
        for _ in self._messages:
            answer = next(self._answers)
        return answer

    def close(self) -> None:
        """End it."""
        self._outgoing.put(None)


def request(graph_id: str, arrays: dict[str, hinge.Floats]) -> pb.ComputeGradientsRequest:
    tensors = {name: tensor_pb2.Tensor(shape=array.shape, raw=array.tobytes()) for name, array in arrays.items()}
    return pb.ComputeGradientsRequest(graph_id=graph_id, tensors=tensors)


def _check(arrays: dict[str, hinge.Floats], value: float, gradient: hinge.Floats) -> None:
    """All do the same job."""
    expected, slope = hinge.value_and_gradient(**arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    np.testing.assert_allclose(gradient, slope, rtol=1e-10)


def _federated(address: str, arrays: dict[str, hinge.Floats]) -> Any:
    host, _, port = address.rpartition(":")
    client = ArraysToArraysServiceClient(host, int(port))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def call() -> tuple[float, hinge.Floats]:
        value, gradient = client.evaluate(*arrays.values())
        return float(value), gradient

    _check(arrays, *call())
    return call
