"""What Prometheus sees."""

from __future__ import annotations

import subprocess
import sys
from itertools import repeat
from pathlib import Path
from typing import Any

import psutil
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.integration.raw import channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.waiting import eventually
from tests.losses import hinge, sum_of_squares

PROMTOOL = Path(sys.executable).parent / "promtool"

LABELS = 'grpc_method="ComputeGradients",grpc_service="gradwire.v1.GradientService",grpc_type="unary"'


def series(server: ServerProcess) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in server.metrics().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_promtool_finds_nothing_to_say(server: ServerProcess) -> None:
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=server.metrics(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_calls_and_work_are_counted() -> None:
    case = hinge(examples=7)
    with ServerProcess() as server, gw.connect(server.address) as client:
        before = series(server)
        assert before[f"grpc_server_started_total{{{LABELS}}}"] == 0
        value_and_grad = client.value_and_grad(case.loss)
        for _ in range(3):
            value_and_grad(**case.arrays)
        client.value_and_grad(gw.log(gw.parameter("w")))(w=0.0)
        with pytest.raises(gw.InvalidRequestError):
            value_and_grad(**case.arrays | {"w": [1.0]})
        client.info()
        after = series(server)
    assert after[f"grpc_server_started_total{{{LABELS}}}"] == 5
    assert after[f'grpc_server_handled_total{{grpc_code="OK",{LABELS}}}'] == 4
    assert after[f'grpc_server_handled_total{{grpc_code="InvalidArgument",{LABELS}}}'] == 1
    assert after[f"grpc_server_handling_seconds_count{{{LABELS}}}"] == 5
    assert after[f'grpc_server_handling_seconds_bucket{{{LABELS.replace("grpc_type", "grpc_type")},le="+Inf"}}'] == 5
    assert after["gradwire_examples_processed_total"] == 3 * 7 + 1
    nodes = len(gw.graph(case.loss).nodes)
    assert after["gradwire_nodes_processed_total"] == 3 * 7 * nodes + 2
    assert after["gradwire_programs_cached"] == 2
    assert after["gradwire_programs_cached_bytes"] > 0
    assert after["gradwire_compile_seconds_count"] == 2
    assert after['gradwire_compute_seconds_count{nodes_le="100"}'] == 3
    assert after['gradwire_non_finite_total{phase="value"}'] == 1
    assert after['gradwire_refused_total{reason="INVALID_TENSOR"}'] == 1
    assert after["gradwire_received_bytes_total"] > 0
    assert after["gradwire_sent_bytes_total"] > 0
    assert after["gradwire_requests_in_flight"] == 0
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert after["process_open_fds"] > 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_each_process_counts_how_late_its_event_loop_is(workers: int) -> None:
    counted = "gradwire_event_loop_delay_seconds_count"
    with ServerProcess(flags=(f"--workers={workers}",)) as server:
        await eventually(lambda: series(server)[counted] >= 2 * workers)


async def test_the_processor_time_of_the_event_loop_is_counted() -> None:
    counted, case = "gradwire_event_loop_cpu_seconds_total", hinge()
    with ServerProcess() as server:

        def spent() -> float:
            """What the operating system says of the thread, which has the number of the process."""
            [loop] = [each for each in psutil.Process(server.process.pid).threads() if each.id == server.process.pid]
            return float(loop.user_time + loop.system_time)

        before, told = spent(), series(server)[counted]
        with gw.connect(server.address) as client:
            value_and_grad = client.value_and_grad(case.loss)
            for _ in range(500):
                value_and_grad(**case.arrays)
        taken = spent() - before
        assert taken > 0.1
        # It is told in hundredths of a second, and once a second.
        await eventually(lambda: series(server)[counted] - told >= taken - 0.02)
        assert series(server)[counted] <= spent() + 0.02


async def test_a_call_that_its_caller_ends_is_counted_as_what_the_caller_saw() -> None:
    case = sum_of_squares(1_000_000)
    labels = 'grpc_method="StreamGradients",grpc_service="gradwire.v1.GradientService",grpc_type="bidi_stream"'
    with ServerProcess() as server, channel(server.address) as opened:
        method: Any = opened.stream_stream("/gradwire.v1.GradientService/StreamGradients")
        request = pb.ComputeGradientsRequest(
            graph=gw.graph(case.loss),
            tensors={"w": tensor_pb2.Tensor(shape=[1_000_000], raw=case.arrays["w"].tobytes())},
        )
        frame = pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=request)).SerializeToString()

        def counted(code: str, total: int) -> bool:
            found = series(server)
            handled = f'grpc_server_handled_total{{grpc_code="{code}",{labels}}}'
            return found[handled] == 1 and found[f"grpc_server_handling_seconds_count{{{labels}}}"] == total

        # Nobody reads the answers, so that the server waits in a write.
        call = method(repeat(frame, 12))
        sent = f"grpc_server_msg_sent_total{{{labels}}}"
        await eventually(lambda: series(server)[sent] > 0)
        call.cancel()
        await eventually(lambda: counted("Canceled", 1))
        # Long enough that the call comes to a server on a busy machine, who would not count it otherwise.
        call = method(repeat(frame, 12), timeout=3)
        await eventually(lambda: counted("DeadlineExceeded", 2))
        assert "ExecuteBatchError" not in server.log


def test_no_text_of_a_caller_becomes_a_label(server: ServerProcess) -> None:
    before = set(series(server))
    with channel(server.address) as opened:
        for number in range(50):
            assert not isinstance(send(opened, f"Secret{number}", b""), bytes)
    with gw.connect(server.address) as client:
        client.value_and_grad(gw.parameter("SecretName"))(SecretName=1.0)
    after = series(server)
    assert set(after) == before
    unknown = 'grpc_method="unknown",grpc_service="unknown",grpc_type="unary"'
    assert after[f'grpc_server_handled_total{{grpc_code="Unimplemented",{unknown}}}'] >= 50
