"""What a busy server turns away, and what it ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import chain
from threading import Event
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.hostile import messages
from tests.integration.raw import SERVICE, Refused, channel, refused, send, stub
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.integration.test_lifecycle import half_a_request
from tests.integration.test_metrics import series
from tests.integration.test_service import tensors
from tests.integration.waiting import eventually
from tests.losses import endless, hinge, perceptron, sum_of_squares

BUSY = "gradwire_requests_in_flight"


def is_busy(server: ServerProcess) -> bool:
    return series(server)[BUSY] == 1


def turned_away(server: ServerProcess, resource: str) -> float:
    return series(server)[f'gradwire_requests_refused_total{{resource="{resource}"}}']


@pytest.mark.parametrize("how", ["call", "stream"])
async def test_a_request_that_is_turned_away_is_made_again_by_the_sdk(how: str) -> None:
    long, short = endless(), sum_of_squares(100_000)
    with ServerProcess(flags=("--max-requests=1",)) as server:
        with gw.connect(server.address) as client, client.stream(short.loss) as stream:
            call = stream if how == "stream" else client.value_and_grad(short.loss)
            expected, _ = call(short.arrays)
            with channel(server.address) as opened, ThreadPoolExecutor(1) as pool:
                request = pb.ComputeGradientsRequest(graph=gw.graph(long.loss), tensors=tensors(long))
                busy = stub(opened).ComputeGradients.future(request)
                await eventually(partial(is_busy, server))
                made = pool.submit(call, short.arrays)
                await eventually(lambda: turned_away(server, "requests") >= 1)
                busy.cancel()
                assert made.result()[0] == expected
        await eventually(lambda: series(server)[BUSY] == 0)


async def test_a_connection_with_much_work_holds_up_no_other() -> None:
    count = 2000
    graph = messages.graph(*[messages.parameter(f"w{i}") for i in range(count)], messages.op("add", *range(count)))
    arrays = {f"w{i}": messages.scalar(1.0) for i in range(count)}
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with ServerProcess() as server, ExitStack() as stack:
        much, little = (
            stub(stack.enter_context(grpc.insecure_channel(server.address, own_connection))) for _ in range(2)
        )
        graph_id = much.RegisterGraph(pb.RegisterGraphRequest(graph=graph)).graph_id
        requests = [pb.ComputeGradientsRequest(graph_id=graph_id, tensors=arrays, outputs=[i]) for i in range(100)]
        # Each is planned anew, which its size does not tell.
        calls = [much.ComputeGradients.future(request, timeout=DEADLINE) for request in requests]
        await eventually(lambda: series(server)[BUSY] > 0.8 * len(calls))
        little.ComputeGradients(pb.ComputeGradientsRequest(graph_id=graph_id, tensors=arrays), timeout=DEADLINE)
        assert sum(call.done() for call in calls) < len(calls) / 2
        assert calls[0].result().outputs
        for call in calls:
            call.cancel()


@pytest.mark.parametrize(
    ("flag", "setting"),
    [
        ("--max-bytes-in-flight=700000", "max_bytes_in_flight"),
        ("--max-memory-in-flight=700000", "max_memory_in_flight"),
    ],
)
def test_a_request_that_never_has_room_is_told_so_and_a_stream_goes_on(flag: str, setting: str) -> None:
    large, small = sum_of_squares(200_000), sum_of_squares(3)
    with ServerProcess(flags=(flag,)) as server, gw.connect(server.address) as client:
        for call in (client.value_and_grad(large.loss), client.stream(large.loss)):
            with pytest.raises(gw.LimitExceededError, match=setting) as raised:
                call(large.arrays)
            assert raised.value.metadata["setting"] == setting
        assert client.value_and_grad(small.loss)(small.arrays)[0] == 14
        found = series(server)
        assert found["gradwire_requests_in_flight_bytes"] == found["gradwire_requests_in_flight_memory_bytes"] == 0


@pytest.mark.parametrize("setting", ["max_memory_bytes", "max_memory_in_flight"])
def test_traces_and_checks_take_no_more_memory_than_they_may(setting: str) -> None:
    large, small = sum_of_squares(100_000), sum_of_squares(3)
    flag = f"--{setting.replace('_', '-')}=1000000"
    with ServerProcess(flags=(flag,)) as server, gw.connect(server.address) as client:
        for ask in (client.trace, client.check):
            method: Any = ask
            with pytest.raises(gw.LimitExceededError, match=setting) as raised:
                method(large.loss, large.arrays)
            assert raised.value.metadata["setting"] == setting
            assert method(small.loss, small.arrays)
        assert series(server)["gradwire_requests_in_flight_memory_bytes"] == 0


def test_a_request_that_would_take_far_too_long_is_not_begun() -> None:
    # Empty examples are much work in few bytes.
    loss = gw.sum(gw.input("x", shape=(0,), per_example=True)) + gw.parameter("w")
    for _ in range(20):
        loss = gw.tanh(loss)
    arrays: dict[str, Any] = {"x": np.zeros((2**31, 0)), "w": 1.0}
    flags = ("--max-seconds=1", "--threads=1", f"--max-examples={2**31}")
    with ServerProcess(flags=flags) as server, gw.connect(server.address) as client:
        for call in (client.value_and_grad(loss), client.stream(loss)):
            with pytest.raises(gw.LimitExceededError, match="max_seconds") as raised:
                call(arrays)
            assert raised.value.metadata["setting"] == "max_seconds"
        assert series(server)["gradwire_examples_processed_total"] == 0


async def test_two_requests_that_have_no_room_together_are_turned_away() -> None:
    case = sum_of_squares(1_000_000)
    frames = [half_a_request_of(600_000)]
    with ServerProcess(flags=("--max-bytes-in-flight=8500000",)) as server, channel(server.address) as opened:
        hold = Event()
        method: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        half = method(chain(frames, iter(hold.wait, True)))
        await eventually(lambda: series(server)["gradwire_requests_in_flight_bytes"] > 600_000)
        with gw.connect(server.address, max_attempts=1) as client:
            value_and_grad = client.value_and_grad(case.loss)
            with pytest.raises(gw.OverloadedError, match="max_bytes_in_flight") as raised:
                value_and_grad(case.arrays)
            assert raised.value.retry_after == 0.5
            assert turned_away(server, "bytes") == 1
            half.cancel()
            await eventually(lambda: series(server)["gradwire_requests_in_flight_bytes"] == 0)
            assert value_and_grad(case.arrays)[0] == np.sum(case.arrays["w"] ** 2)
        hold.set()


def half_a_request_of(nbytes: int) -> bytes:
    """A head that says that as much is to come, and has so many bytes itself."""
    request = pb.ComputeGradientsRequest(graph=gw.graph(gw.sum(gw.parameter("w", shape=(4,)))))
    request.tensors["v"].CopyFrom(tensor_pb2.Tensor(raw=bytes(nbytes)))
    head = pb.StreamRequestHead(request=request, framed=[pb.FramedTensor(name="w", shape=[4])])
    return bytes(pb.StreamGradientsRequest(head=head).SerializeToString())


def test_the_server_has_a_time_limit_of_its_own() -> None:
    case, small = perceptron(1_000_000), perceptron(3)
    with ServerProcess(flags=("--max-seconds=1",)) as server, gw.connect(server.address) as client:
        with pytest.raises(gw.DeadlineExceededError, match="max_seconds") as raised:
            client.check(case.loss, case.arrays, max_probes=10_000)
        assert raised.value.metadata["setting"] == "max_seconds"
        assert client.value_and_grad(case.loss)(small.arrays)[0] > 0
        assert series(server)['gradwire_requests_cancelled_total{stage="running"}'] == 1


async def test_a_stream_that_stands_still_in_a_request_is_ended() -> None:
    with ServerProcess(flags=("--max-stall=0.3",)) as server, channel(server.address) as opened:
        hold = Event()
        method: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        idle = method(iter(hold.wait, True))
        with pytest.raises(grpc.RpcError) as raised:
            list(method(chain([half_a_request()], iter(hold.wait, True))))
        answer = refused(raised.value)
        assert (answer.code, answer.metadata["setting"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "max_stall")
        assert "32 bytes" in answer.message
        # Between requests a stream may wait for as long as it likes.
        assert idle.is_active()
        hold.set()
        assert series(server)['gradwire_requests_cancelled_total{stage="receiving"}'] == 1


async def test_a_stream_whose_responses_nobody_reads_is_ended() -> None:
    case = sum_of_squares(1_000_000)
    request = pb.ComputeGradientsRequest(
        graph=gw.graph(case.loss), tensors={"w": tensor_pb2.Tensor(shape=[1_000_000], raw=case.arrays["w"].tobytes())}
    )
    frame = pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=request)).SerializeToString()
    with ServerProcess(flags=("--max-stall=3",)) as server, channel(server.address) as opened:
        method: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        call = method(iter([frame] * 20))
        await eventually(lambda: series(server)['gradwire_requests_cancelled_total{stage="sending"}'] == 1)
        # Who reads on has time to learn why.
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
        answer = refused(raised.value)
        assert (answer.code, answer.metadata["setting"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "max_stall")
        await eventually(lambda: series(server)["gradwire_requests_in_flight_bytes"] == 0)


async def test_connections_that_are_closed_for_their_age_cost_their_callers_nothing() -> None:
    case = hinge()
    flags = ("--max-connection-age=0.5", "--max-connection-idle=0.5", "--grace=1")
    with ServerProcess(flags=flags) as server, gw.connect(server.address) as client:
        value_and_grad = client.value_and_grad(case.loss)
        expected, _ = value_and_grad(case.arrays)
        with client.stream(case.loss) as stream:
            for _ in range(40):
                assert value_and_grad(case.arrays)[0] == expected
                assert stream(case.arrays)[0] == expected
                hold = Event()
                hold.wait(0.1)


def test_a_graph_that_cannot_be_kept_is_computed_where_it_comes_with_a_request() -> None:
    case = sum_of_squares(3)
    graph = gw.graph(case.loss)
    with ServerProcess(flags=("--max-cache-bytes=10000",)) as server, channel(server.address) as opened:
        with pytest.raises(grpc.RpcError) as raised:
            stub(opened).RegisterGraph(pb.RegisterGraphRequest(graph=graph))
        error = refused(raised.value)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert error.metadata["setting"] == "max_cache_bytes"
        reply = stub(opened).ComputeGradients(pb.ComputeGradientsRequest(graph=graph, tensors=tensors(case)))
        assert np.frombuffer(reply.loss.raw) == 14


def test_graphs_are_prepared_in_memory_that_is_there() -> None:
    wide = gw.parameter("w", shape=(2,))
    for _ in range(1000):
        wide = gw.reshape(wide, (1, 2)) if wide.shape == (2,) else gw.reshape(wide, (2,))
    small = sum_of_squares(3)
    with ServerProcess(flags=("--max-memory-in-flight=3000000",)) as server, channel(server.address) as opened:
        graph = gw.graph(gw.sum(wide))
        given = {"w": tensor_pb2.Tensor(shape=[2], values=[1, 1])}
        for method, request in (
            ("RegisterGraph", pb.RegisterGraphRequest(graph=graph)),
            ("ComputeGradients", pb.ComputeGradientsRequest(graph=graph, tensors=given)),
            ("TraceGraph", pb.TraceGraphRequest(graph=graph, tensors=given)),
            ("CheckGradients", pb.CheckGradientsRequest(graph=graph, tensors=given)),
        ):
            error = send(opened, method, request)
            assert isinstance(error, Refused), method
            assert (error.reason, error.metadata["setting"]) == ("LIMIT_EXCEEDED", "max_memory_in_flight")
        request = pb.ComputeGradientsRequest(graph=graph, tensors=given)
        frame = pb.StreamGradientsRequest(tag=1, head=pb.StreamRequestHead(request=request))
        [reply] = stub(opened).StreamGradients(iter([frame]))
        assert "max_memory_in_flight" in str(reply)
        found = series(server)
        assert found["gradwire_compile_seconds_count"] == found["gradwire_requests_in_flight_memory_bytes"] == 0
        with gw.connect(server.address) as client:
            assert client.value_and_grad(small.loss)(small.arrays)[0] == 14
