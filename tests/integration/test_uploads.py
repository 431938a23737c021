"""UploadExamples frame by frame, and requests about what was uploaded."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from threading import Event
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.hostile.memory import growth, resident
from tests.integration.raw import Refused, channel, refused, stub
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.integration.waiting import eventually
from tests.losses import Case, hinge, perceptron

F32, F64, I64 = tensor_pb2.DTYPE_FLOAT32, tensor_pb2.DTYPE_FLOAT64, tensor_pb2.DTYPE_INT64
NUMBERS = {"float32": F32, "float64": F64, "int64": I64}
MEBIBYTE = 1 << 20

Arrays = Mapping[str, Any]
Frame = pb.UploadExamplesRequest


@pytest.fixture(scope="module")
def service(server: ServerProcess) -> Iterator[Any]:
    with channel(server.address) as opened:
        yield stub(opened)


def announced(name: str, array: Any) -> pb.FramedTensor:
    return pb.FramedTensor(name=name, dtype=NUMBERS[str(array.dtype)], shape=array.shape)


def head(*tensors: pb.FramedTensor, examples_id: str = "") -> Frame:
    return Frame(head=pb.UploadExamplesHead(tensors=tensors, examples_id=examples_id))


def frames(arrays: Arrays, examples_id: str = "", size: int = 1_000_000) -> Iterator[Frame]:
    yield head(*(announced(*each) for each in arrays.items()), examples_id=examples_id)
    for array in arrays.values():
        raw = array.tobytes()
        yield from (Frame(chunk=raw[start : start + size]) for start in range(0, len(raw), size))


def upload(service: Any, sent: Iterable[Frame], timeout: float = DEADLINE) -> Any:
    """The response, or how it was refused."""
    try:
        return service.UploadExamples(iter(sent), timeout=timeout)
    except grpc.RpcError as error:
        return refused(error)


def uploaded(service: Any, arrays: Arrays) -> str:
    found: str = upload(service, frames(arrays)).examples_id
    return found


def tensor(array: Any) -> tensor_pb2.Tensor:
    array = np.asarray(array)
    return tensor_pb2.Tensor(dtype=NUMBERS[str(array.dtype)], shape=array.shape, raw=array.tobytes())


def asked(examples_id: str, rows: Any = None) -> pb.StoredExamples:
    if rows is None:
        return pb.StoredExamples(examples_id=examples_id)
    if isinstance(rows, tuple):
        return pb.StoredExamples(examples_id=examples_id, range=pb.RowRange(start=rows[0], stop=rows[1]))
    return pb.StoredExamples(examples_id=examples_id, indices=tensor(np.asarray(rows, np.int64)))


def compute(service: Any, case: Case, stored: pb.StoredExamples | None, **more: Any) -> Any:
    dtype = more.pop("dtype", F64)
    sent = {name: tensor(array) for name, array in case.arrays.items()}
    request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=sent, examples=stored, dtype=dtype, **more)
    try:
        response = service.ComputeGradients(request, timeout=DEADLINE)
    except grpc.RpcError as error:
        return refused(error)
    response.ClearField("stats")
    return response


def split(case: Case, names: Iterable[str], dtype: str = "float64") -> tuple[Case, dict[str, Any]]:
    """The case without what is to be stored, and that; floats of this dtype."""
    arrays = {
        name: array if np.asarray(array).dtype.kind == "i" else np.asarray(array, dtype)
        for name, array in case.arrays.items()
    }
    stored = {name: arrays.pop(name) for name in names}
    return Case(case.loss, arrays), stored


HINGE, PERCEPTRON = hinge(200, 7), perceptron(150)
CASES = [(HINGE, ("phi", "y")), (HINGE, ("phi",)), (PERCEPTRON, ("x", "label"))]
ROWS: list[Callable[[int], Any]] = [
    lambda _: None,
    lambda n: (0, n),
    lambda n: (3, n - 1),
    lambda n: [0, n - 1, 5, 5, 1],
    lambda n: list(range(n))[::-1],
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", [pb.REDUCTION_MEAN, pb.REDUCTION_SUM, pb.REDUCTION_NONE])
@pytest.mark.parametrize(("case", "names"), CASES, ids=["hinge", "phi-alone", "labels"])
def test_the_answer_has_the_bits_of_one_to_the_same_rows_sent(
    service: Any, case: Case, names: tuple[str, ...], reduction: Any, dtype: str
) -> None:
    rest, stored = split(case, names, dtype)
    examples_id = uploaded(service, stored)
    options = {"dtype": NUMBERS[dtype], "reduction": reduction}
    n = len(next(iter(stored.values())))
    for make in ROWS:
        rows = make(n)
        own = slice(None) if rows is None else slice(*rows) if isinstance(rows, tuple) else rows
        # What is not stored has rows of its own.
        single = {name: array[own] if name == "y" else array for name, array in rest.arrays.items()}
        sent = Case(case.loss, {**single, **{name: array[own] for name, array in stored.items()}})
        expected = compute(service, sent, None, **options)
        assert compute(service, Case(case.loss, single), asked(examples_id, rows), **options) == expected, rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(0, 399), st.integers(1, 400), st.sampled_from(["float32", "float64"]))
def test_whatever_row_a_range_begins_at(service: Any, width: int, start: int, count: int, dtype: str) -> None:
    rest, stored = split(hinge(400, width), ("phi", "y"), dtype)
    stop = min(400, start + count)
    examples_id = uploaded(service, stored)
    sent = Case(rest.loss, {**rest.arrays, **{name: array[start:stop].copy() for name, array in stored.items()}})
    expected = compute(service, sent, None, dtype=NUMBERS[dtype])
    assert compute(service, rest, asked(examples_id, (start, stop)), dtype=NUMBERS[dtype]) == expected


def test_the_id_is_made_as_the_contract_says_and_claimed_ids_that_are_held_need_no_bytes(service: Any) -> None:
    arrays = {"zé": np.arange(6.0).reshape(3, 2), "a": np.arange(3), "y": np.arange(3, dtype=np.float32)}
    literal = sha256(
        b"gradwire.v1.examples"
        + b"".join(
            n.to_bytes(8, "little") if isinstance(n, int) else n
            for n in (
                *(1, b"a", 3, 1, 3, arrays["a"].tobytes()),
                *(1, b"y", 1, 1, 3, arrays["y"].tobytes()),
                *(3, "zé".encode(), 2, 2, 3, 2, arrays["zé"].tobytes()),
            )
        )
    ).hexdigest()
    backwards = dict(reversed(arrays.items()))
    assert uploaded(service, arrays) == literal == uploaded(service, backwards)
    known = upload(service, [head(examples_id=literal)])
    assert (known.examples_id, known.examples, known.held) == (literal, 3, True)
    never = Event()

    def stuck() -> Iterator[Frame]:
        yield next(frames(arrays, literal))
        never.wait()

    known = upload(service, stuck())
    never.set()
    assert known.examples_id == literal


FLOATS = np.arange(12.0).reshape(4, 3)
VALID = {"phi": FLOATS, "y": np.ones(4)}


@pytest.mark.parametrize(
    ("sent", "reason", "words"),
    [
        ([], "INVALID_FRAME", ["head"]),
        ([Frame()], "INVALID_FRAME", ["first frame is no head"]),
        ([Frame(chunk=b"0")], "INVALID_FRAME", ["first frame is no head"]),
        ([head()], "INVALID_REQUEST", ["at least one"]),
        ([head(pb.FramedTensor(shape=[1]))], "INVALID_TENSOR", ["no name"]),
        ([head(announced("x", FLOATS), announced("x", FLOATS))], "INVALID_TENSOR", ["twice"]),
        ([head(pb.FramedTensor(name="x"))], "INVALID_TENSOR", ["scalar"]),
        ([head(pb.FramedTensor(name="x", dtype=9, shape=[1]))], "INVALID_TENSOR", ["unknown dtype 9"]),  # type: ignore[arg-type]
        ([head(pb.FramedTensor(name="x", shape=[-1]))], "INVALID_TENSOR", ["size -1"]),
        ([head(pb.FramedTensor(name="x", shape=[2**32, 2**32]))], "INVALID_TENSOR", [str(2**64)]),
        ([head(pb.FramedTensor(name="x", shape=[1] * 40))], "INVALID_TENSOR", ["40 axes"]),
        ([head(pb.FramedTensor(name="x" * 300, shape=[1]))], "INVALID_TENSOR", ["300 characters"]),
        ([head(announced("x", FLOATS), announced("y", np.ones(3)))], "INVALID_TENSOR", ["3 examples", '"x" has 4']),
        ([head(pb.FramedTensor(name="x", shape=[2**31]))], "LIMIT_EXCEEDED", ["max_stored_bytes", str(4 << 30)]),
        ([head(announced("x", FLOATS), examples_id="abc")], "INVALID_REQUEST", ["64 lower-case"]),
        (list(frames(VALID, "0" * 64)), "INVALID_REQUEST", ["0" * 64, "as announced"]),
        (list(frames(VALID))[:-1], "INVALID_FRAME", ["32 bytes", "still to come"]),
        ([*frames(VALID), Frame(chunk=b"0")], "INVALID_FRAME", ["all that was announced is there"]),
        ([head(announced("x", FLOATS)), Frame(chunk=bytes(97))], "INVALID_FRAME", ['"x" lacks 96']),
        ([head(announced("x", FLOATS)), Frame(chunk=b"")], "INVALID_FRAME", ["at least one byte"]),
        ([head(announced("x", FLOATS)), head(announced("x", FLOATS))], "INVALID_FRAME", ["no chunk", "96 bytes"]),
    ],
)
def test_what_is_wrong_with_an_upload_is_said(service: Any, sent: list[Frame], reason: str, words: list[str]) -> None:
    found = upload(service, sent)
    assert isinstance(found, Refused)
    assert found.reason == reason, found
    assert [word for word in words if word not in found.message] == [], found.message


@pytest.mark.parametrize(
    ("rows", "reason", "words"),
    [
        ((0, 5), "INDEX_OUT_OF_RANGE", ["0 to 5", "4 examples"]),
        ((3, 2), "INDEX_OUT_OF_RANGE", ["3 to 2"]),
        ((2**63, 2**64 - 1), "INDEX_OUT_OF_RANGE", [str(2**63)]),
        ([0, 4], "INDEX_OUT_OF_RANGE", ["index 1", "is 4", "4 examples"]),
        ([3, 0, -1], "INDEX_OUT_OF_RANGE", ["index 2", "is -1"]),
        ([[0, 1]], "INVALID_TENSOR", ["(1, 2)", "one axis"]),
        (pb.StoredExamples(indices=tensor(np.zeros(2))), "INVALID_TENSOR", ["float64", "int64"]),
        (pb.StoredExamples(indices=tensor_pb2.Tensor(dtype=I64, shape=[3], raw=b"0")), "INVALID_TENSOR", ["24 bytes"]),
        ((2, 2), "INVALID_TENSOR", ["0 examples"]),
    ],
)
def test_rows_that_there_are_not_are_refused(service: Any, rows: Any, reason: str, words: list[str]) -> None:
    examples_id = uploaded(service, VALID)
    stored = rows if isinstance(rows, pb.StoredExamples) else asked(examples_id, rows)
    stored.examples_id = examples_id
    found = compute(service, Case(hinge().loss, {"w": np.ones(3)}), stored)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert [word for word in words if word not in found.message] == [], found.message


def test_what_a_graph_lacks_is_said_and_what_it_does_not_need_is_left_alone(service: Any) -> None:
    w = {"w": np.ones(3)}
    loss = hinge().loss
    alone = uploaded(service, {"phi": FLOATS, "z": np.ones(4)})
    found = compute(service, Case(loss, w), asked(alone))
    assert (found.reason, found.paths) == ("INVALID_TENSOR", ['tensors["y"]'])
    assert '"phi", "z"' in found.message
    assert compute(service, Case(loss, {**w, "y": np.ones(4)}), asked(alone)).HasField("loss")
    found = compute(service, Case(loss, {**w, "y": np.ones(4), "phi": FLOATS}), asked(alone))
    assert "send it once" in found.message
    narrow = uploaded(service, {"phi": FLOATS.astype(np.float32), "y": np.ones(4)})
    found = compute(service, Case(loss, w), asked(narrow))
    assert "float32" in found.message
    assert "expected float64" in found.message
    found = compute(service, Case(loss, w), asked("0" * 64))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "EXAMPLES_NOT_FOUND")
    assert found.metadata["examples_id"] == "0" * 64
    assert compute(service, Case(loss, w), asked("abc")).reason == "INVALID_REQUEST"


def test_a_report_counts_the_rows_of_the_request(service: Any) -> None:
    phi = FLOATS.copy()
    phi[2, 1] = np.nan
    examples_id = uploaded(service, {"phi": phi, "y": np.ones(4)})
    for rows, example in ([3, 0, 2], 2), ((1, 4), 1):
        response = compute(service, Case(hinge().loss, {"w": np.ones(3)}), asked(examples_id, rows))
        assert response.non_finite.example == example


def test_no_examples_are_examples_too(service: Any) -> None:
    examples_id = uploaded(service, {"phi": np.empty((0, 3)), "y": np.empty(0)})
    case = Case(hinge().loss, {"w": np.ones(3)})
    assert compute(service, case, asked(examples_id), reduction=pb.REDUCTION_SUM).loss.raw == bytes(8)
    assert compute(service, case, asked(examples_id, [0])).reason == "INDEX_OUT_OF_RANGE"
    assert compute(service, case, asked(examples_id, []), reduction=pb.REDUCTION_NONE).loss.shape == [0]


def rows_of_bytes(nbytes: int, value: float) -> dict[str, Any]:
    return {"phi": np.full((nbytes // 24, 3), value), "y": np.ones(nbytes // 24)}


def number(server: ServerProcess, name: str) -> float:
    [found] = [line for line in server.metrics().splitlines() if line.startswith(f"{name} ")]
    return float(found.split()[1])


async def test_those_used_longest_ago_make_room_and_memory_stays_flat() -> None:
    case = Case(hinge().loss, {"w": np.ones(3)})
    with ServerProcess(flags=("--max-stored-bytes=100000000",)) as server, channel(server.address) as opened:
        service = stub(opened)
        first, second = (uploaded(service, rows_of_bytes(24 * MEBIBYTE, value)) for value in (1.0, 2.0))
        expected = compute(service, case, asked(first))
        third = uploaded(service, rows_of_bytes(24 * MEBIBYTE, 3.0))
        assert compute(service, case, asked(second)).reason == "EXAMPLES_NOT_FOUND"
        assert compute(service, case, asked(third)).HasField("loss")
        assert compute(service, case, asked(first)) == expected
        assert number(server, "gradwire_stored_sets") == 2
        assert 64 * MEBIBYTE < number(server, "gradwire_stored_bytes") < 68 * MEBIBYTE
        assert number(server, "gradwire_stored_uploaded_total") == 3
        assert number(server, "gradwire_stored_forgotten_total") == 1
        before = resident(server.process.pid)
        with growth(server.process.pid) as grown:
            for value in range(20):
                uploaded(service, rows_of_bytes(24 * MEBIBYTE, float(value)))
        assert grown.nbytes < 100 * MEBIBYTE
        await eventually(lambda: resident(server.process.pid) < before + 50 * MEBIBYTE)
        assert number(server, "gradwire_stored_bytes") < 100_000_000


def test_thousands_of_tiny_uploads_count_with_what_they_take_beside_their_elements() -> None:
    with ServerProcess(flags=("--max-stored-bytes=10000000",)) as server, channel(server.address) as opened:
        service = stub(opened)
        with growth(server.process.pid) as grown:
            for start in range(0, 3000, 100):
                calls = [
                    service.UploadExamples.future(iter([*frames({"x": np.array([float(value)])})]))
                    for value in range(start, start + 100)
                ]
                for call in calls:
                    call.result()
        assert grown.nbytes < 30 * MEBIBYTE
        assert 1000 < number(server, "gradwire_stored_sets") < 3000
        assert number(server, "gradwire_stored_bytes") <= 10_000_000


async def test_half_uploads_hold_what_they_announce_until_they_stand_still_too_long() -> None:
    flags = ("--max-stored-bytes=100000000", "--max-stall=1")
    large = rows_of_bytes(30 * MEBIBYTE, 1.0)
    with ServerProcess(flags=flags) as server, channel(server.address) as opened:
        service, never = stub(opened), Event()

        def half() -> Iterator[Frame]:
            sent = frames(large)
            yield next(sent)
            yield next(sent)
            never.wait()

        calls = [service.UploadExamples.future(half()) for _ in range(2)]
        await eventually(lambda: number(server, "gradwire_stored_bytes") > 80 * MEBIBYTE)
        busy = upload(service, frames(large))
        assert isinstance(busy, Refused)
        assert (busy.code, busy.reason, busy.retry) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", True)
        for call in calls:
            stalled = refused(call.exception())
            assert (stalled.reason, stalled.metadata["setting"]) == ("DEADLINE_EXCEEDED", "max_stall")
        never.set()
        await eventually(lambda: number(server, "gradwire_stored_bytes") == 0)
        cancelled = service.UploadExamples.future(half())
        await eventually(lambda: number(server, "gradwire_stored_bytes") > 0)
        cancelled.cancel()
        await eventually(lambda: number(server, "gradwire_stored_bytes") == 0)
        assert uploaded(service, large)


def test_a_server_that_keeps_none_says_so() -> None:
    with ServerProcess(flags=("--max-stored-bytes=0",)) as server, channel(server.address) as opened:
        found = upload(stub(opened), frames(VALID))
        assert isinstance(found, Refused)
        assert (found.reason, found.metadata["setting"]) == ("LIMIT_EXCEEDED", "max_stored_bytes")


async def test_a_server_that_is_told_to_stop_ends_uploads_that_stand_still() -> None:
    never = Event()

    def half() -> Iterator[Frame]:
        yield next(frames(VALID))
        never.wait()

    with ServerProcess() as server, channel(server.address) as opened:
        call = stub(opened).UploadExamples.future(half())
        await eventually(lambda: number(server, "gradwire_stored_bytes") > 0)
        server.process.send_signal(signal.SIGTERM)
        error = refused(call.exception())
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert server.wait() == 0
    never.set()
