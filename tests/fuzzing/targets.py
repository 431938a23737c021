"""What the fuzzer calls with bytes: a script of calls, straight to codec and engine, or over gRPC to a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server import codec, engine
from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.engine import unhurried
from gradwire_server.errors import Reason, Refusal
from gradwire_server.service.requests.logic import GradientLogic
from gradwire_server.service.rpc.status import CODES
from gradwire_server.service.telemetry import request_ids
from tests.fuzzing import oracle
from tests.fuzzing.script import STREAM, UPLOAD, Ids, script_of, sendings
from tests.integration.raw import SERVICE, refused

LIMITS = ServiceLimits(
    max_message_bytes=1 << 20,
    max_request_bytes=1 << 20,
    max_nodes=2000,
    max_edges=8000,
    max_examples=3000,
    max_tensor_bytes=1 << 20,
    max_memory_bytes=16 << 20,
    max_cache_bytes=4 << 20,
    max_stored_bytes=1 << 20,
)
"""Small ones: what is far too much for a server then fits a short script."""

FLAGS = tuple(f"--{name.replace('_', '-')}={value}" for name, value, _ in LIMITS.listed())

SECONDS = 30.0
"""After which a call counts as hanging."""

EXPECTED = {CODES[reason] for reason in Reason} - {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}

_METHODS = pb.DESCRIPTOR.services_by_name["GradientService"].methods_by_name


def decode(data: bytes) -> None:
    """Play a script without gRPC; what is accepted is computed by the machine and by the reference.

    Raises:
        Exception: Anything but a refusal.
    """
    logic, ids = GradientLogic(LIMITS), Ids([], [])
    steps: dict[str, tuple[type[Any], Callable[[Any], object]]] = {
        "RegisterGraph": (pb.RegisterGraphRequest, logic.register_graph),
        "ComputeGradients": (pb.ComputeGradientsRequest, partial(_compared, logic)),
        "TraceGraph": (pb.TraceGraphRequest, lambda request: logic.trace(request, lambda: None)),
        "CheckGradients": (pb.CheckGradientsRequest, lambda request: logic.check(request, lambda: None)),
    }
    for method, messages in sendings(script_of(data), ids):
        try:
            if method == UPLOAD:
                ids.examples.append(_uploaded(logic, messages))
            elif method in steps:
                kind, step = steps[method]
                for raw in messages[:1]:
                    step(codec.parse(kind, raw))
        except Refusal as refusal:
            well_told(CODES[refusal.reason], refusal.message)


def _uploaded(logic: GradientLogic, messages: list[bytes]) -> str:
    """The id of examples that were kept: of those that are announced, with zeros for elements that did not come."""
    frames = [codec.parse(pb.UploadExamplesRequest, raw, LIMITS.of_engine()) for raw in messages]
    head = frames[0].head if frames else pb.UploadExamplesHead()
    received = logic.store.receive(codec.decode_upload(head, LIMITS.of_engine()))
    rest = b"".join(frame.chunk for frame in frames)
    for array in received.arrays.values():
        elements = array.reshape(-1).view(np.uint8)
        elements[:] = np.frombuffer(rest[: array.nbytes].ljust(array.nbytes, b"\0"), np.uint8)
        rest = rest[array.nbytes :]
    found = codec.id_of(received.arrays, unhurried)
    logic.store.put(found, received)
    return found


def _compared(logic: GradientLogic, request: pb.ComputeGradientsRequest) -> None:
    limits = LIMITS.of_engine()
    graph = codec.decode_graph(request.graph, limits)
    if request.HasField("examples"):
        request = _with_rows(logic, request)
    oracle.agree(graph, codec.decode_query(request, limits, unhurried), limits)


def _with_rows(logic: GradientLogic, request: pb.ComputeGradientsRequest) -> pb.ComputeGradientsRequest:
    """A request that brings the rows which this one names.

    Raises:
        AssertionError: The two have different answers.
        Refusal: The request is refused.
    """
    prepared = logic.prepare_compute(request)
    arrays = prepared.job.query.arrays
    if prepared.gather is not None:
        arrays = {**arrays, **prepared.gather.copies(engine.ONE, unhurried)}
    own = pb.ComputeGradientsRequest()
    own.CopyFrom(request)
    own.ClearField("examples")
    for name, array in arrays.items():
        own.tensors[name].CopyFrom(codec.encode_tensor(np.ascontiguousarray(array)))
    named, brought = (_answer(logic, each) for each in (request, own))
    assert named == brought, (named, brought)
    return own


def _answer(logic: GradientLogic, request: pb.ComputeGradientsRequest) -> bytes | Reason:
    try:
        response = logic.prepare_compute(request).run(unhurried)
    except Refusal as refusal:
        return refusal.reason
    response.ClearField("stats")
    return bytes(response.SerializeToString(deterministic=True))


def well_told(code: grpc.StatusCode, message: str) -> None:
    """Check what a refused caller is told.

    Raises:
        AssertionError: That is none of the codes of a refusal, or no text.
    """
    assert code in EXPECTED, f"{code.name}: {message}"
    assert len(message) > 10, message
    assert message.isprintable(), message


def play(opened: grpc.Channel, data: bytes, log_of: Callable[[str], str]) -> list[grpc.StatusCode]:
    """Play a script to a server; gives how each call, and each request of a stream that failed, ended.

    ``log_of`` gives what the server logs of a call, by its request id.

    Raises:
        AssertionError: A call has an answer that none may have, or none in time; it has what the server logged of it.
    """
    ids = Ids([], [])
    codes: list[grpc.StatusCode] = []
    for method, messages in sendings(script_of(data), ids):
        request_id = uuid4().hex
        try:
            codes += _call(opened, method, messages, request_id, ids)
        except AssertionError as error:
            error.add_note(f"{method} {request_id}\n{log_of(request_id)}")
            raise
    return codes


def _call(opened: grpc.Channel, method: str, messages: list[bytes], request_id: str, ids: Ids) -> list[grpc.StatusCode]:
    """How it, and each of its requests that failed, ended; adds what it registers or uploads to ``ids``."""
    options: Any = {"timeout": SECONDS, "metadata": ((request_ids.KEY, request_id),)}
    try:
        if method == STREAM:
            replies = _stream(opened, messages, options)
        elif method == UPLOAD:
            upload: Any = opened.stream_unary(f"/{SERVICE}/{UPLOAD}")
            replies = [pb.UploadExamplesResponse.FromString(upload(iter(messages), **options))]
        else:
            replies = [_unary(opened, method, raw, options) for raw in messages[:1]]
    except grpc.RpcError as error:
        told = refused(error)
        well_told(told.code, told.message)
        assert told.nbytes < 4096
        return [told.code]
    codes = [grpc.StatusCode.OK]
    for reply in replies:
        if isinstance(reply, pb.RegisterGraphResponse):
            ids.graphs.append(reply.graph_id)
        if isinstance(reply, pb.UploadExamplesResponse):
            ids.examples.append(reply.examples_id)
        if isinstance(reply, pb.StreamGradientsResponse) and reply.HasField("error"):
            [code] = [code for code in grpc.StatusCode if code.value[0] == reply.error.code]
            well_told(code, reply.error.message)
            codes.append(code)
    return codes


def _unary(opened: grpc.Channel, method: str, raw: bytes, options: Any) -> Message:
    call: Any = opened.unary_unary(f"/{SERVICE}/{method}")
    return GetMessageClass(_METHODS[method].output_type).FromString(call(raw, **options))


def _stream(opened: grpc.Channel, messages: list[bytes], options: Any) -> list[Message]:
    call: Any = opened.stream_stream(f"/{SERVICE}/{STREAM}")
    return [pb.StreamGradientsResponse.FromString(reply) for reply in call(iter(messages), **options)]
