"""StreamGradients frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.integration.raw import channel, refused, stub
from tests.integration.server_process import ServerProcess

F64 = tensor_pb2.DTYPE_FLOAT64
COUNT = 300_000
GRAPH = gw.graph(gw.sum(gw.parameter("w", shape=(COUNT,)) * gw.parameter("v")))
VALUES = np.arange(COUNT, dtype=np.float64)


@pytest.fixture(scope="module")
def service(server: ServerProcess) -> Iterator[Any]:
    with channel(server.address) as opened:
        yield stub(opened)


def number(value: float) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(values=[value])


def head(tag: int, framed: Iterable[pb.FramedTensor] = (), **tensors: tensor_pb2.Tensor) -> pb.StreamGradientsRequest:
    request = pb.ComputeGradientsRequest(graph=GRAPH, tensors=tensors)
    return pb.StreamGradientsRequest(tag=tag, head=pb.StreamRequestHead(request=request, framed=framed))


def announced(name: str = "w", count: int = COUNT) -> pb.FramedTensor:
    return pb.FramedTensor(name=name, dtype=F64, shape=[count])


def chunks(tag: int, array: Any, size: int) -> list[pb.StreamGradientsRequest]:
    raw = array.tobytes()
    return [pb.StreamGradientsRequest(tag=tag, chunk=raw[i : i + size]) for i in range(0, len(raw), size)]


def request(tag: int, v: float, size: int = 1_000_000) -> list[pb.StreamGradientsRequest]:
    return [head(tag, [announced()], v=number(v)), *chunks(tag, VALUES, size)]


def assembled(frames: Iterable[pb.StreamGradientsResponse]) -> list[tuple[int, Any, dict[Any, Any]]]:
    """Tag, head or error, and framed tensors of each response: by source, by output, or "loss"."""
    responses: list[tuple[int, Any, dict[Any, Any]]] = []
    pending: list[tuple[Any, int]] = []
    for frame in frames:
        assert frame.ByteSize() <= 1 << 20
        kind = frame.WhichOneof("frame")
        if kind == "chunk":
            name, size = pending[0]
            body = responses[-1][2][name]
            body += frame.chunk
            assert len(body) <= size
            if len(body) == size:
                pending.pop(0)
        else:
            assert not pending
            responses.append((frame.tag, getattr(frame, kind), {}))
            for tensor in frame.head.framed:
                kind = tensor.WhichOneof("tensor")
                part = kind if kind == "loss" else getattr(tensor, kind)
                responses[-1][2][part] = bytearray()
                pending.append((part, 8 * int(np.prod(tensor.shape))))
        assert frame.tag == responses[-1][0]
    assert not pending
    return responses


@pytest.mark.parametrize("size", [1_000_000, 1 << 20, 77_777])
def test_responses_come_in_the_order_of_requests_with_their_tags(service: Any, size: int) -> None:
    frames = [frame for tag, v in ((7, 1.0), (3, 2.0), (7, 3.0)) for frame in request(tag, v, size)]
    responses = assembled(service.StreamGradients(iter(frames)))
    assert [tag for tag, _, _ in responses] == [7, 3, 7]
    for (_, answer, framed), v in zip(responses, (1.0, 2.0, 3.0), strict=True):
        assert np.frombuffer(answer.response.loss.raw) == v * VALUES.sum()
        assert np.frombuffer(answer.response.gradients["v"].raw) == VALUES.sum()
        np.testing.assert_array_equal(np.frombuffer(framed["w"]), v)


def test_losses_and_outputs_travel_in_frames_that_every_client_takes(server: ServerProcess) -> None:
    count = 700_000
    examples = np.arange(count, dtype=np.float64)
    request = pb.ComputeGradientsRequest(
        graph=gw.graph(gw.parameter("w") * gw.input("x", per_example=True)),
        tensors={"w": number(3)},
        reduction=pb.REDUCTION_NONE,
        outputs=[1, 2],
    )
    begin = pb.StreamGradientsRequest(tag=4, head=pb.StreamRequestHead(request=request, framed=[announced("x", count)]))
    with grpc.insecure_channel(server.address) as opened:
        [(tag, _, tensors)] = assembled(stub(opened).StreamGradients(iter([begin, *chunks(4, examples, 1 << 20)])))
    assert tag == 4
    assert tensors.keys() == {"loss", 1, 2, "w"}
    for part, expected in (("loss", 3 * examples), (1, examples), (2, 3 * examples), ("w", examples)):
        np.testing.assert_array_equal(np.frombuffer(tensors[part]), expected)


def framed(*announcements: pb.FramedTensor) -> list[pb.StreamGradientsRequest]:
    """A request with tag 5 that announces these, and sends w."""
    return [head(5, announcements, v=number(1)), *chunks(5, VALUES, 1 << 20)]


def crowded() -> list[pb.StreamGradientsRequest]:
    """The same, with a head that is refused before it is parsed."""
    begin, *rest = framed(announced())
    begin.head.request.outputs.extend([0] * 1_100_000)
    return [begin, *rest]


WRONG_REQUESTS: list[tuple[str, list[pb.StreamGradientsRequest], tuple[str, ...], str]] = [
    ("missing", [head(5, v=number(1))], ('"w"', "missing"), "INVALID_TENSOR"),
    ("shape", [*framed(announced(count=9))[:1], *chunks(5, VALUES[:9], 99)], ('"w"', "(9,)"), "INVALID_TENSOR"),
    ("surplus", framed(announced("z", 0), announced()), ('"z"',), "INVALID_TENSOR"),
    ("negative", framed(announced(count=-9)), ('"w"', "-9"), "INVALID_TENSOR"),
    ("twice", framed(announced(), announced()), ('"w"', "twice"), "INVALID_TENSOR"),
    ("both", framed(announced("v", 0), announced()), ('"v"', "once"), "INVALID_TENSOR"),
    ("nameless", framed(pb.FramedTensor(loss=True), announced()), ("no name",), "INVALID_TENSOR"),
    ("crowded", crowded(), ("1100000 outputs", "max_nodes"), "LIMIT_EXCEEDED"),
    ("huge", framed(announced(count=1 << 40)), ("max_request_bytes",), "LIMIT_EXCEEDED"),
]


@pytest.mark.parametrize(
    ("frames", "words", "reason"), [row[1:] for row in WRONG_REQUESTS], ids=[row[0] for row in WRONG_REQUESTS]
)
def test_an_error_is_of_its_request_and_does_not_end_the_stream(
    service: Any, frames: list[pb.StreamGradientsRequest], words: tuple[str, ...], reason: str
) -> None:
    responses = assembled(service.StreamGradients(iter([*request(1, 1.0), *frames, *request(2, 2.0)])))
    assert [tag for tag, _, _ in responses] == [1, 5, 2]
    error = responses[1][1]
    assert [word for word in words if word not in error.message] == [], error.message
    info = error_details_pb2.ErrorInfo()
    assert error.details[0].Unpack(info)
    assert info.reason == reason
    assert np.frombuffer(responses[2][1].response.loss.raw) == 2 * VALUES.sum()


ENDING: list[tuple[str, list[pb.StreamGradientsRequest], tuple[str, ...]]] = [
    ("nothing", [pb.StreamGradientsRequest(tag=9)], ("tag 9", "neither head nor chunk")),
    ("chunk-first", [pb.StreamGradientsRequest(tag=9, chunk=b"abc")], ("tag 9", "3 bytes", "head")),
    ("empty-chunk", [head(9, [announced()]), pb.StreamGradientsRequest(tag=9, chunk=b"")], ("tag 9", "0 bytes")),
    ("other-tag", [head(9, [announced()]), pb.StreamGradientsRequest(tag=8, chunk=b"a")], ("tag 8", "tag 9")),
    ("too-long", [head(9, [announced(count=1)]), pb.StreamGradientsRequest(tag=9, chunk=b"a" * 9)], ("9 bytes", "8")),
    ("cut-off", [head(9, [announced()]), *chunks(9, VALUES, 1_000_000)[:1]], ("tag 9", "ended", "1400000")),
    ("head-inside", [head(9, [announced()]), head(8)], ("tag 8", "2400000", "tag 9")),
]


@pytest.mark.parametrize(("frames", "words"), [row[1:] for row in ENDING], ids=[row[0] for row in ENDING])
def test_frames_out_of_order_end_the_stream(
    service: Any, frames: list[pb.StreamGradientsRequest], words: tuple[str, ...]
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        list(service.StreamGradients(iter(frames)))
    answer = refused(raised.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FRAME")
    assert [word for word in words if word not in answer.message] == [], answer.message


@pytest.mark.parametrize(
    "garbage",
    # The second one has too much in it, too, and no tag that could be read.
    [b"\xff" * 9, crowded()[0].SerializeToString() + b"\x0b"],
    ids=["all", "end"],
)
def test_garbage_ends_the_stream(server: ServerProcess, garbage: bytes) -> None:
    frames = [frame.SerializeToString() for frame in request(1, 1.0)]
    with channel(server.address) as opened:
        call: Any = opened.stream_stream("/gradwire.v1.GradientService/StreamGradients")
        with pytest.raises(grpc.RpcError) as raised:
            list(call(iter([*frames, garbage])))
    answer = refused(raised.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


def test_a_head_that_announces_much_takes_no_memory() -> None:
    with ServerProcess() as server, channel(server.address) as opened:
        frames = [head(1, [announced(count=(1 << 27) - 1)], v=number(1))]
        with pytest.raises(grpc.RpcError, match="1073741816"):
            list(stub(opened).StreamGradients(iter(frames)))
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123  (no file of ours)
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 500_000
