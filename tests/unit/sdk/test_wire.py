"""Requests that the SDK writes, and responses that it reads, are those of protobuf, whatever their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradwire._arrays import NUMBERS
from gradwire._calls.layouts import beginnings
from gradwire._calls.replies import Replies
from gradwire._calls.results import Result
from gradwire._calls.steps import Compute
from gradwire._errors import ServerError
from gradwire._transports.frames import request_frames, whole
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire.v1.frames import before_message, chunk_frame, chunk_of, message_in, message_of

ARRAYS = {
    "w": np.linspace(0, 1, 3),
    "x": np.arange(12, dtype="<f4").reshape(3, 4),
    "rows": np.array([[2, 1]], dtype="<i8"),
    "b": np.array(2.5),
    "none": np.empty((0, 3)),
    "ä.0[1]": np.zeros((1, 1, 2)),
}
HEAD = pb.ComputeGradientsRequest(graph_id="g" * 64)
ASKED = pb.ComputeGradientsRequest(reduction=pb.REDUCTION_SUM, wrt=pb.SourceNames(names=["w"]), outputs=[3, 1])


def step(**arrays: Any) -> Compute:
    return Compute(HEAD.SerializeToString(), ASKED.SerializeToString(), arrays, beginnings(arrays), 0, 0, by_id=True)


def tensor(array: Any) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(dtype=NUMBERS[array.dtype], shape=array.shape, raw=array.tobytes())


def expected(**arrays: Any) -> pb.ComputeGradientsRequest:
    message = pb.ComputeGradientsRequest(tensors={name: tensor(array) for name, array in arrays.items()})
    message.MergeFrom(HEAD)
    message.MergeFrom(ASKED)
    return message


def test_a_request_is_what_protobuf_reads() -> None:
    assert pb.ComputeGradientsRequest.FromString(whole(step(**ARRAYS))) == expected(**ARRAYS)
    assert pb.ComputeGradientsRequest.FromString(whole(step())) == expected()


def test_small_tensors_are_in_the_head_of_a_stream_and_large_ones_follow() -> None:
    (frame,) = request_frames(step(**ARRAYS))
    head = pb.StreamGradientsRequest.FromString(frame).head
    assert (head.request, len(head.framed)) == (expected(**ARRAYS), 0)
    large = np.arange(200_000.0)
    frame, *chunks = request_frames(step(large=large, **ARRAYS))
    head = pb.StreamGradientsRequest.FromString(frame).head
    assert head.request == expected(**ARRAYS)
    assert [(framed.name, framed.shape) for framed in head.framed] == [("large", [200_000])]
    elements = b"".join(pb.StreamGradientsRequest.FromString(chunk).chunk for chunk in chunks)
    assert elements == large.tobytes()


@pytest.mark.parametrize("tag", [0, 1, 127, 128, 1 << 40])
@pytest.mark.parametrize("length", [1, 126, 127, 128, 129, 16_382, 16_390])
def test_frames_of_a_tag_are_read_as_protobuf_reads_them_and_with_another_not_at_all(tag: int, length: int) -> None:
    content = memoryview(bytes(range(256)) * 100)[:length]
    chunk = chunk_frame(tag, content)
    assert pb.StreamGradientsRequest.FromString(chunk) == pb.StreamGradientsRequest(tag=tag, chunk=bytes(content))
    message = pb.ComputeGradientsResponse(loss={"raw": bytes(content)}).SerializeToString()
    frame = before_message(tag, len(message)) + message
    head = pb.StreamResponseHead(response=pb.ComputeGradientsResponse.FromString(message))
    assert pb.StreamGradientsResponse.FromString(frame) == pb.StreamGradientsResponse(tag=tag, head=head)
    start = len(frame) - len(message)
    assert (message_of(frame, tag), message_in(frame)) == (start, (tag, start))
    found = chunk_of(chunk, tag)
    # Where the frame's own length takes a byte more than the chunk's, protobuf is to read it.
    assert found is None if length in (126, 127, 16_382) else found == content
    for other in {0, 1, 2, 129} - {tag}:
        assert chunk_of(chunk, other) is None
        assert message_of(frame, other) is None


def response(seed: int = 0, shape: tuple[int, ...] = (3,), **more: Any) -> pb.ComputeGradientsResponse:
    numbers = np.random.default_rng(seed)
    return pb.ComputeGradientsResponse(
        loss=tensor(numbers.normal(size=())),
        gradients={name: tensor(numbers.normal(size=shape)) for name in ("w", "b", "none")},
        outputs={node: tensor(numbers.normal(size=2)) for node in (0, 300)},
        stats=pb.ComputeStats(examples=seed, blocks=1),
        **more,
    )


def assert_read(replies: Replies, message: pb.ComputeGradientsResponse) -> None:
    assert_tells(message, *replies.read(message.SerializeToString()))


def assert_tells(message: pb.ComputeGradientsResponse, arrays: Any, told: Any) -> None:
    """The arrays are those that protobuf finds in the message."""
    found: dict[Any, tensor_pb2.Tensor] = {None: message.loss, **message.gradients, **message.outputs}
    assert arrays.keys() == found.keys()
    assert [name for name in arrays if isinstance(name, str)] == sorted(message.gradients)
    for key, array in arrays.items():
        assert (list(array.shape), array.tobytes()) == (found[key].shape, found[key].raw)
        assert array.flags.writeable
    result = Result(None, None, None, told, None)
    assert (result.examples, result.blocks) == (message.stats.examples, message.stats.blocks)
    assert (result.non_finite is not None) == message.HasField("non_finite")


def test_responses_are_read_whether_they_are_alike_or_not() -> None:
    replies = Replies()
    for seed in range(5):
        assert_read(replies, response(seed))
    template = replies._template  # noqa: SLF001  (or else nothing was compared)
    assert template is not None
    assert_read(replies, response(6, (4,)))
    assert_read(replies, response(7, (3,), non_finite=pb.NonFinite(phase=pb.NonFinite.PHASE_VALUE, node=2)))
    assert_read(replies, response(8))
    arrays, _ = replies.read(response(9).SerializeToString())
    arrays["w"][:] = 0
    assert_read(replies, response(9))


def unusual() -> Iterator[tuple[str, bytes]]:
    """Responses that begin as others do and then change them."""
    raw = response(1).SerializeToString()
    yield "another loss", raw + pb.ComputeGradientsResponse(loss=tensor(np.array(7.0))).SerializeToString()
    yield "another gradient", raw + pb.ComputeGradientsResponse(gradients={"w": tensor(np.ones(3))}).SerializeToString()
    yield "no end", raw[: -response(1).stats.ByteSize() - 2]


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in unusual()])
def test_what_comes_after_the_tensors_counts(raw: bytes) -> None:
    replies = Replies()
    for seed in range(3):
        assert_read(replies, response(seed))
    assert_tells(pb.ComputeGradientsResponse.FromString(raw), *replies.read(raw))


def test_whatever_byte_is_another_a_response_is_read_as_the_parser_reads_it() -> None:
    replies = Replies()
    raw = b""
    for seed in range(3):
        raw = response(seed).SerializeToString()
        assert_read(replies, response(seed))
    for place in range(len(raw)):
        for flipped in (1, 2, 128, 255):
            other = bytearray(raw)
            other[place] ^= flipped
            fresh = _outcome(Replies(), bytes(other))
            assert _outcome(replies, bytes(other)) == fresh


def _outcome(replies: Replies, raw: bytes) -> object:
    """What a response is read as; nothing if it makes no sense."""
    try:
        arrays, told = replies.read(raw)
        result = Result(None, None, None, told, None)
        found = (str(result.non_finite), result.compute_seconds, result.examples, result.blocks)
        return {key: (array.shape, array.dtype, array.tobytes()) for key, array in arrays.items()}, found
    except ServerError:
        return None


def test_a_response_with_its_fields_in_another_order_is_left_to_the_parser() -> None:
    elements = tensor_pb2.Tensor(raw=np.ones(3).tobytes()).SerializeToString()
    loss = elements + tensor_pb2.Tensor(shape=[3]).SerializeToString()
    raw = bytes([10, len(loss)]) + loss
    replies = Replies()
    for _ in range(4):
        arrays, _ = replies.read(raw)
        np.testing.assert_array_equal(arrays[None], np.ones(3))
    assert replies._template is None  # noqa: SLF001  (or else it was no other order)
