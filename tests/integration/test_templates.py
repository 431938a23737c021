"""A server says the same of a request whether it was parsed or known by its bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.errors import Refusal
from gradwire_server.service.requests.logic import GradientLogic
from gradwire_server.service.rpc.planning import Planner
from gradwire_server.service.rpc.status import CODES, error_frame, pack
from tests.integration.raw import Refused, channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import LABELS, series
from tests.integration.waiting import eventually
from tests.losses import Case, hinge, perceptron
from tests.unit.test_templates import request, tensor

KINDS = ("good", "NaN", "infinite", "head", "element", "length", "dtype", "index")


def changed(chance: random.Random, case: Case, raw: bytes, kind: str) -> bytes:
    """A request like this one, with other numbers, or with something wrong."""
    message = pb.ComputeGradientsRequest.FromString(raw)
    for name in sorted(case.arrays):
        array = np.asarray(case.arrays[name])
        if array.dtype.kind == "f":
            message.tensors[name].raw = np.random.default_rng(chance.getrandbits(32)).normal(size=array.shape).tobytes()
    name = "phi" if "phi" in case.arrays else "x"
    if kind in ("NaN", "infinite"):
        array = np.frombuffer(message.tensors[name].raw).copy()
        array[chance.randrange(len(array))] = np.nan if kind == "NaN" else np.inf
        message.tensors[name].raw = array.tobytes()
        message.reject_non_finite = chance.random() < 0.5
    if kind == "index" and "label" in case.arrays:
        message.tensors["label"].raw = (case.arrays["label"] + chance.randint(0, 3)).tobytes()
    if kind == "length":
        message.tensors[name].raw = message.tensors[name].raw[: -chance.choice([1, 8])]
    if kind == "dtype":
        message.tensors[name].CopyFrom(tensor(np.frombuffer(message.tensors[name].raw, np.float32)))
    other = bytearray(message.SerializeToString())
    if kind in ("head", "element"):
        place = chance.randrange(110) if kind == "head" else chance.randrange(len(other))
        other[place] ^= 1 << chance.randrange(8)
    return bytes(other)


def expected(logic: GradientLogic, raw: bytes) -> pb.ComputeGradientsResponse | Refusal:
    """What the ordinary course makes of it, in this process."""
    from gradwire_server import codec  # noqa: PLC0415

    try:
        message = codec.parse(pb.ComputeGradientsRequest, raw, logic.limits.of_engine())
        planned: Any = Planner(logic).compute(message, lambda: None)
        response: pb.ComputeGradientsResponse = planned.run(lambda: None)
    except Refusal as refusal:
        return refusal
    response.stats.ClearField("compute_time")
    return response


def told(answer: bytes | Refused | pb.ComputeGradientsResponse | Refusal) -> object:
    """What of an answer is the same each time."""
    if isinstance(answer, Refused):
        return answer.code, answer.message
    if isinstance(answer, Refusal):
        return CODES[answer.reason], pack(answer).message
    if isinstance(answer, bytes):
        response = pb.ComputeGradientsResponse.FromString(answer)
        response.stats.ClearField("compute_time")
        return response.SerializeToString(deterministic=True)
    return answer.SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def opened(server: ServerProcess) -> Iterator[Any]:
    with channel(server.address) as own:
        yield own


def framed(opened: Any) -> Iterator[Callable[[int, bytes], Any]]:
    """A stream, as a call that sends a request and gives its answer."""
    outgoing: SimpleQueue[bytes | None] = SimpleQueue()
    answers = opened.stream_stream("/gradwire.v1.GradientService/StreamGradients")(iter(outgoing.get, None))

    def call(tag: int, raw: bytes) -> Any:
        outgoing.put(pb.StreamGradientsRequest(tag=tag).SerializeToString() + before(raw) + raw)
        frame = pb.StreamGradientsResponse.FromString(next(answers))
        assert frame.tag == tag
        return frame

    yield call
    outgoing.put(None)
    assert list(answers) == []


def before(raw: bytes) -> bytes:
    """What a frame has before a request that may not parse."""
    whole = pb.StreamGradientsResponse(chunk=raw).SerializeToString()
    inner = b"\x0a" + whole[1 : len(whole) - len(raw)]
    outer = pb.StreamGradientsResponse(chunk=inner + raw).SerializeToString()
    return b"\x12" + outer[1 : len(outer) - len(inner + raw)] + inner


@pytest.mark.parametrize("case", [hinge(40, 8), perceptron()], ids=["hinge", "perceptron"])
@pytest.mark.parametrize("seed", range(3))
def test_requests_by_chance_are_answered_as_if_none_was_known(opened: Any, case: Case, seed: int) -> None:
    chance, logic = random.Random(seed), GradientLogic()  # noqa: S311  (no secret)
    raw = request(case, logic).SerializeToString()
    assert isinstance(send(opened, "RegisterGraph", pb.RegisterGraphRequest(graph=gw.graph(case.loss))), bytes)
    first = told(expected(logic, raw))
    for _ in range(4):
        assert told(send(opened, "ComputeGradients", raw)) == first
    codes = set()
    for number in range(150):
        kind = KINDS[number % len(KINDS)]
        other = changed(chance, case, raw, kind)
        answer = send(opened, "ComputeGradients", other)
        assert told(answer) == told(expected(logic, other)), kind
        codes.add(answer.code.name if isinstance(answer, Refused) else "OK")
    assert codes >= {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}


@pytest.mark.parametrize("seed", range(3))
def test_requests_in_a_stream_are_answered_as_if_none_was_known(opened: Any, seed: int) -> None:
    chance, logic, case = random.Random(seed), GradientLogic(), hinge(40, 8)  # noqa: S311  (as above)
    raw = request(case, logic).SerializeToString()
    send(opened, "RegisterGraph", pb.RegisterGraphRequest(graph=gw.graph(case.loss)))
    stream = framed(opened)
    call = next(stream)
    errors = 0
    for number in range(150):
        kind = chance.choice([kind for kind in KINDS if kind != "head"])
        other, tag = changed(chance, case, raw, kind), chance.choice([0, 1, number, 1 << 40])
        result = expected(logic, other)
        if isinstance(result, Refusal) and result.reason == "MALFORMED_MESSAGE":
            continue
        frame = call(tag, other)
        if isinstance(result, Refusal):
            errors += 1
            # Processes write the details, in which there is a map, in orders of their own.
            wanted = error_frame(tag, result)
            assert (frame.tag, frame.error.code, frame.error.message) == (tag, wanted.error.code, wanted.error.message)
            assert len(frame.error.SerializeToString()) == len(wanted.error.SerializeToString())
        else:
            frame.head.response.stats.ClearField("compute_time")
            assert frame.head.response.SerializeToString(deterministic=True) == told(result)
            assert not frame.head.framed
    assert errors
    assert next(stream, None) is None


def test_a_known_request_after_one_that_was_refused_is_answered_and_its_chunks_are_not() -> None:
    case, logic = hinge(40, 8), GradientLogic()
    raw = request(case, logic).SerializeToString()
    with ServerProcess() as server, channel(server.address) as own:
        send(own, "RegisterGraph", pb.RegisterGraphRequest(graph=gw.graph(case.loss)))
        for _ in range(3):
            assert isinstance(send(own, "ComputeGradients", raw), bytes)
        tall = pb.FramedTensor(name="w", shape=[1] * 40)
        bad = pb.StreamGradientsRequest(tag=5, head=pb.StreamRequestHead(framed=[tall])).SerializeToString()
        good = pb.StreamGradientsRequest(tag=6).SerializeToString() + before(raw) + raw
        late = pb.StreamGradientsRequest(tag=5, chunk=b"x").SerializeToString()
        method: Any = own.stream_stream("/gradwire.v1.GradientService/StreamGradients")
        answers = method(iter([bad, late, good, late]))
        frames = [pb.StreamGradientsResponse.FromString(next(answers)) for _ in range(2)]
        assert [(frame.tag, frame.WhichOneof("frame")) for frame in frames] == [(5, "error"), (6, "head")]
        with pytest.raises(Exception, match="no tensor is to come"):
            next(answers)


def settled(server: ServerProcess) -> bool:
    """Whether all calls that began have been counted as handled, which they are a little after their answer."""
    found = series(server)
    return found[f"grpc_server_started_total{{{LABELS}}}"] == found[f"grpc_server_handling_seconds_count{{{LABELS}}}"]


async def test_what_is_known_is_counted_as_what_is_not() -> None:
    case, logic = hinge(40, 8), GradientLogic()
    message = request(case, logic)
    with ServerProcess() as server, channel(server.address) as own:
        send(own, "RegisterGraph", pb.RegisterGraphRequest(graph=gw.graph(case.loss)))

        async def gains() -> dict[str, float]:
            before = series(server)
            for _ in range(2):
                assert isinstance(send(own, "ComputeGradients", message), bytes)
            await eventually(lambda: settled(server))
            after = series(server)
            counted = {name: after[name] - before[name] for name in after if "ComputeGradients" in name}
            names = [name for name in after if name.startswith(("gradwire_nodes", "gradwire_ex", "gradwire_received"))]
            counted |= {name: after[name] - before[name] for name in names}
            return {name: gain for name, gain in counted.items() if "seconds_bucket" not in name and "_sum" not in name}

        first = await gains()
        assert any(first.values())
        for _ in range(3):
            assert await gains() == first
