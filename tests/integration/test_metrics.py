"""What Prometheus sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gradwire as gw
from tests.integration.raw import channel, send
from tests.integration.server_process import ServerProcess
from tests.losses import hinge

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
