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
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

import gradwire as gw
from gradwire._calls.results import Trace
from gradwire._errors import from_status
from gradwire._transports.frames import Assembler
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.integration.server_process import DEADLINE

GRADIENT = tensor_pb2.Tensor(shape=[3], raw=bytes(24))
LOSS = tensor_pb2.Tensor(raw=bytes(8))
UNKNOWN = pb.NonFinite(name="w")
SHORT = tensor_pb2.Tensor(shape=[3], raw=bytes(8))

ANSWERS = {
    "no message": b"\xff\xff",
    "nothing": b"",
    "no gradient": pb.ComputeGradientsResponse(loss=LOSS).SerializeToString(),
    "no loss": pb.ComputeGradientsResponse(gradients={"w": LOSS}).SerializeToString(),
    "an unknown phase": pb.ComputeGradientsResponse(
        loss=LOSS, gradients={"w": GRADIENT}, non_finite=UNKNOWN
    ).SerializeToString(),
    "too few elements": pb.ComputeGradientsResponse(loss=LOSS, gradients={"w": SHORT}).SerializeToString(),
}


def loss(w: Any) -> gw.Expression:
    return gw.dot(w, w)


@contextmanager
def server(answer: bytes, times: int = 1) -> Iterator[str]:
    """A server that gives every computation this answer, and in a stream so many of it."""
    registered = pb.RegisterGraphResponse(graph_id="0" * 64).SerializeToString()

    def framed(request: bytes) -> bytes:
        if answer == ANSWERS["no message"]:
            return answer
        head = pb.StreamResponseHead(response=pb.ComputeGradientsResponse.FromString(answer))
        tag = pb.StreamGradientsRequest.FromString(request).tag
        # How many came before is the loss.
        if times > 1:
            head.response.loss.raw = np.float64(tag).tobytes()
        return bytes(pb.StreamGradientsResponse(tag=tag, head=head).SerializeToString())

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "RegisterGraph": grpc.unary_unary_rpc_method_handler(lambda *_: registered),
        "ComputeGradients": grpc.unary_unary_rpc_method_handler(lambda *_: answer),
        "StreamGradients": grpc.stream_stream_rpc_method_handler(
            lambda requests, _: (framed(request) for request in requests for _ in range(times))
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
                stream(w, timeout=DEADLINE)
        async with gw.AsyncClient(target) as asynchronous:
            with pytest.raises(gw.ServerError, match="the server sent"):
                await asynchronous.value_and_grad(loss)(w)


def test_an_answer_that_nobody_asked_for_passes_for_no_other_and_ends_no_stream() -> None:
    answer = pb.ComputeGradientsResponse(loss=LOSS, gradients={"w": GRADIENT}).SerializeToString()
    with server(answer, times=2) as target, gw.connect(target) as client, client.stream(loss) as stream:
        for _ in range(5):
            futures = [stream.submit(np.zeros(3)) for _ in range(3)]
            # Those that came together have the answers to them, or are told that there was another.
            errors = [future.exception(20) for future in futures]
            found = [
                float(future.result().loss) for future, error in zip(futures, errors, strict=True) if error is None
            ]
            assert found == sorted(set(found))
            for error in filter(None, errors):
                assert isinstance(error, gw.ServerError)
                assert "nobody asked for" in str(error)


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
                stream(Params(np.ones(3)), timeout=DEADLINE)


TRACES = {
    "no node": pb.TraceGraphResponse(),
    "too few elements": pb.TraceGraphResponse(nodes=[pb.NodeTrace(value=SHORT)] * 3),
    "an edge to nowhere": pb.TraceGraphResponse(nodes=[pb.NodeTrace(value=LOSS, operands=[pb.EdgeTrace(node=9)])] * 3),
    "an unknown phase": pb.TraceGraphResponse(nodes=[pb.NodeTrace(value=LOSS)] * 3, non_finite=UNKNOWN),
}


@pytest.mark.parametrize("response", [pytest.param(trace, id=name) for name, trace in TRACES.items()])
def test_a_trace_that_makes_no_sense_is_the_servers_fault(response: pb.TraceGraphResponse) -> None:
    w = gw.parameter("w", (3,))
    with pytest.raises(gw.ServerError, match="the server sent"):
        Trace(gw.graph(loss(w)), response)


@pytest.mark.parametrize("kind", ["ErrorInfo", "BadRequest", "RetryInfo"])
def test_details_of_an_error_that_make_no_sense_are_left_out(kind: str) -> None:
    detail = any_pb2.Any(type_url=f"type.googleapis.com/google.rpc.{kind}", value=b"\xff\xff")
    error = from_status(Status(code=code_pb2.RESOURCE_EXHAUSTED, message="too large", details=[detail]))
    assert (type(error), str(error), error.reason, error.retry_after) == (
        gw.LimitExceededError,
        "too large",
        None,
        None,
    )


def test_a_node_that_is_not_in_the_graph_has_no_name() -> None:
    bad = error_details_pb2.BadRequest(field_violations=[{"field": "graph.nodes[7].mul"}])
    detail = any_pb2.Any()
    detail.Pack(bad)
    error = from_status(Status(code=code_pb2.INVALID_ARGUMENT, details=[detail]), gw.graph(gw.parameter("w")))
    assert (type(error), error.node, error.findings[0].path) == (gw.InvalidRequestError, None, "graph.nodes[7].mul")


@pytest.mark.parametrize("shape", [[-1], [1 << 60], [1 << 40, 1 << 40]], ids=str)
def test_a_tensor_that_cannot_be_is_the_servers_fault(shape: list[int]) -> None:
    head = pb.StreamResponseHead(framed=[pb.FramedTensor(name="w", shape=shape)])
    with pytest.raises(gw.ServerError, match="the server announced a tensor that makes no sense"):
        Assembler("").feed(pb.StreamGradientsResponse(head=head).SerializeToString())
