"""Servers whose answers make no sense: the SDK says so, whatever kind of call it is, and hangs nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2

GRADIENT = tensor_pb2.Tensor(shape=[3], raw=bytes(24))
LOSS = tensor_pb2.Tensor(raw=bytes(8))
SHORT = tensor_pb2.Tensor(shape=[3], raw=bytes(8))

ANSWERS = {
    "no message": b"\xff\xff",
    "nothing": b"",
    "no gradient": pb.ComputeGradientsResponse(loss=LOSS).SerializeToString(),
    "no loss": pb.ComputeGradientsResponse(gradients={"w": LOSS}).SerializeToString(),
    "too few elements": pb.ComputeGradientsResponse(loss=LOSS, gradients={"w": SHORT}).SerializeToString(),
}


def loss(w: Any) -> gw.Expression:
    return gw.dot(w, w)


@contextmanager
def server(answer: bytes, times: int = 1) -> Iterator[str]:
    """A server that gives every computation this answer, and in a stream so many of it."""
    registered = pb.RegisterGraphResponse(graph_id="0" * 64).SerializeToString()
    frame = b"\xff\xff"
    if answer != frame:
        head = pb.StreamResponseHead(response=pb.ComputeGradientsResponse.FromString(answer))
        frame = pb.StreamGradientsResponse(head=head).SerializeToString()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "RegisterGraph": grpc.unary_unary_rpc_method_handler(lambda *_: registered),
        "ComputeGradients": grpc.unary_unary_rpc_method_handler(lambda *_: answer),
        "StreamGradients": grpc.stream_stream_rpc_method_handler(
            lambda requests, _: (frame for _ in requests for _ in range(times))
        ),
    }
    with ThreadPoolExecutor(4) as threads:
        serving = grpc.server(threads)
        serving.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("gradwire.v1.GradientService", handlers)]
        )
        port = serving.add_insecure_port("127.0.0.1:0")
        serving.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            serving.stop(None).wait()


@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in ANSWERS.items()])
async def test_answers_that_make_no_sense_are_the_servers_fault(answer: bytes) -> None:
    w = np.zeros(3)
    with server(answer) as target:
        with gw.connect(target) as client:
            call = client.value_and_grad(loss)
            for _ in range(3):
                with pytest.raises(gw.ServerError, match="the server sent"):
                    call(w)
            with client.stream(loss) as stream, pytest.raises(gw.ServerError, match="the server sent"):
                stream(w, timeout=20)
        async with gw.AsyncClient(target) as asynchronous:
            with pytest.raises(gw.ServerError, match="the server sent"):
                await asynchronous.value_and_grad(loss)(w)


def test_an_answer_that_nobody_asked_for_ends_no_stream() -> None:
    answer = pb.ComputeGradientsResponse(loss=LOSS, gradients={"w": GRADIENT}).SerializeToString()
    with server(answer, times=2) as target, gw.connect(target) as client, client.stream(loss) as stream:
        for _ in range(5):
            # The surplus answer passes for that to the next call, or ends what the stream has open.
            try:
                assert stream(np.zeros(3), timeout=20)[0] == 0
            except gw.ServerError as error:
                assert "nobody asked for" in str(error)  # noqa: PT017  (either is right)


def test_whatever_the_callers_own_types_raise_ends_no_stream() -> None:
    @dataclass
    class Params:
        w: Any
        size: int = field(init=False)

        def __post_init__(self) -> None:
            if isinstance(self.w, np.ndarray) and not self.w.any():
                raise RuntimeError("no gradient fits")
            self.size = 3

    answer = pb.ComputeGradientsResponse(loss=LOSS, gradients={"p.w": GRADIENT}).SerializeToString()
    with server(answer) as target, gw.connect(target) as client, client.stream(lambda p: loss(p.w)) as stream:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no gradient fits"):
                stream(Params(np.ones(3)), timeout=20)
