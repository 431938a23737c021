"""The contract over a real socket, with the generated stub, as a worker in any language speaks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.engine import OPS
from gradwire_server.version import VERSION
from tests.integration.raw import channel, refused, send, stub
from tests.integration.server_process import ServerProcess
from tests.losses import Case, endless, hinge, hinge_by_hand, perceptron

F64, I64 = tensor_pb2.DTYPE_FLOAT64, tensor_pb2.DTYPE_INT64


@pytest.fixture(scope="module")
def service(server: ServerProcess) -> Iterator[Any]:
    with channel(server.address) as opened:
        yield stub(opened)


def tensor(array: Any) -> tensor_pb2.Tensor:
    values = np.asarray(array)
    return tensor_pb2.Tensor(dtype=I64 if values.dtype == np.int64 else F64, shape=values.shape, raw=values.tobytes())


def tensors(case: Case) -> dict[str, tensor_pb2.Tensor]:
    return {name: tensor(array) for name, array in case.arrays.items()}


def array(message: tensor_pb2.Tensor) -> Any:
    assert message.dtype == F64
    return np.frombuffer(message.raw).reshape(message.shape)


def test_register_then_compute_by_id(service: Any) -> None:
    case = hinge()
    registered = service.RegisterGraph(pb.RegisterGraphRequest(graph=gw.graph(case.loss)))
    assert service.RegisterGraph(pb.RegisterGraphRequest(graph=gw.graph(case.loss))) == registered
    signature = [(s.name, s.parameter, tuple(s.shape), s.per_example, s.unused) for s in registered.signature.sources]
    assert signature == [
        ("w", True, (3,), False, False),
        ("phi", False, (3,), True, False),
        ("y", False, (), True, False),
    ]
    answer = service.ComputeGradients(pb.ComputeGradientsRequest(graph_id=registered.graph_id, tensors=tensors(case)))
    losses, gradients = hinge_by_hand(**case.arrays)
    np.testing.assert_allclose(array(answer.loss), losses.mean(), rtol=1e-14)
    np.testing.assert_allclose(array(answer.gradients["w"]), gradients.mean(axis=0), rtol=1e-14)
    assert (answer.stats.examples, answer.stats.blocks) == (5, 1)
    assert answer.stats.compute_time.nanos > 0
    assert not answer.HasField("non_finite")


def test_the_graph_may_come_with_the_request(service: Any) -> None:
    case = hinge()
    request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case))
    assert service.ComputeGradients(request).loss == service.ComputeGradients(request).loss


def test_everything_a_request_may_ask_for(service: Any) -> None:
    case = perceptron(4)
    request = pb.ComputeGradientsRequest(
        graph=gw.graph(case.loss),
        tensors=tensors(case),
        reduction=pb.REDUCTION_NONE,
        wrt=pb.SourceNames(names=["x", "b1"]),
        outputs=[0],
    )
    answer = service.ComputeGradients(request)
    assert {name: tuple(g.shape) for name, g in answer.gradients.items()} == {"x": (4, 6), "b1": (4, 5)}
    assert tuple(answer.loss.shape) == (4,)
    assert list(answer.outputs) == [0]
    request.wrt.names.clear()
    assert not service.ComputeGradients(request).gradients


def test_float32(service: Any) -> None:
    w = tensor_pb2.Tensor(shape=[2], raw=np.array([1, 2], "<f4").tobytes())
    x = gw.parameter("w", shape=(2,))
    answer = service.ComputeGradients(
        pb.ComputeGradientsRequest(graph=gw.graph(gw.sum(x * x)), dtype=tensor_pb2.DTYPE_FLOAT32, tensors={"w": w})
    )
    assert answer.loss.dtype == answer.gradients["w"].dtype == tensor_pb2.DTYPE_FLOAT32
    assert np.frombuffer(answer.gradients["w"].raw, "<f4").tolist() == [2, 4]


def test_numbers_typed_by_hand(service: Any) -> None:
    answer = service.ComputeGradients(
        pb.ComputeGradientsRequest(
            graph=gw.graph(gw.parameter("w") * gw.input("x")),
            tensors={"w": tensor_pb2.Tensor(values=[3]), "x": tensor_pb2.Tensor(values=[4])},
        )
    )
    assert (array(answer.loss), array(answer.gradients["w"])) == (12, 4)


def test_a_non_finite_value_is_reported(service: Any) -> None:
    x = gw.input("x", per_example=True)
    answer = service.ComputeGradients(
        pb.ComputeGradientsRequest(
            graph=gw.graph(gw.log(x).named("logarithm")), tensors={"x": tensor(np.array([1.0, -1.0]))}
        )
    )
    report = answer.non_finite
    assert (report.phase, report.node, report.name, report.example) == (pb.NonFinite.PHASE_VALUE, 1, "logarithm", 1)
    assert np.isnan(report.value)
    assert [(operand.node, operand.name, operand.value) for operand in report.operands] == [(0, "x", -1.0)]


def test_trace_check_and_info(service: Any) -> None:
    case = hinge(1)
    graph = gw.graph(case.loss)
    one = {"w": tensor(case.arrays["w"]), "phi": tensor(case.arrays["phi"][0]), "y": tensor(case.arrays["y"][0])}
    trace = service.TraceGraph(pb.TraceGraphRequest(graph=graph, tensors=one))
    assert len(trace.nodes) == len(graph.nodes)
    check = service.CheckGradients(pb.CheckGradientsRequest(graph=graph, tensors=tensors(case)))
    assert check.passed
    info = service.GetServerInfo(pb.GetServerInfoRequest())
    assert info.version == VERSION
    assert [op.name for op in info.ops] == [*OPS]
    assert {limit.setting: limit.value for limit in info.limits}["max_message_bytes"] == 128 << 20


def test_sixty_four_megabytes_there_and_back_in_one_message(service: Any) -> None:
    w = gw.parameter("w", shape=(8 << 20,))
    values = np.arange(8 << 20, dtype=np.float64)
    answer = service.ComputeGradients(
        pb.ComputeGradientsRequest(graph=gw.graph(gw.sum(w * w)), tensors={"w": tensor(values)})
    )
    np.testing.assert_array_equal(array(answer.gradients["w"]), 2 * values)


def test_a_reply_over_the_limit_is_refused_before_it_is_computed() -> None:
    with ServerProcess(flags=("--max-message-bytes=1048576",)) as server, channel(server.address) as opened:
        w = gw.parameter("w", shape=(1000,))
        case = Case(gw.sum(w) * gw.input("x", per_example=True), {"w": np.ones(1000), "x": np.ones(200)})
        request = pb.ComputeGradientsRequest(
            graph=gw.graph(case.loss), tensors=tensors(case), reduction=pb.REDUCTION_NONE
        )
        with pytest.raises(grpc.RpcError) as raised:
            stub(opened).ComputeGradients(request)
        answer = refused(raised.value)
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        words = (str(8 * 200 * 1001), "1048576", "--max-message-bytes", "StreamGradients")
        assert [word for word in words if word not in answer.message] == []
        assert answer.metadata["setting"] == "max_message_bytes"
        assert "gradwire_examples_processed_total 0.0" in server.metrics()


def test_requests_beyond_the_limit_are_refused_at_once_with_when_to_try_again() -> None:
    with ServerProcess(flags=("--max-requests=1",)) as server, channel(server.address) as opened:
        case = endless()
        request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case))
        busy = stub(opened).ComputeGradients.future(request)
        while "gradwire_requests_in_flight 1.0" not in server.metrics():
            assert not busy.done()
        answer = send(opened, "GetServerInfo", b"")
        assert not isinstance(answer, bytes)
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert answer.retry
        busy.cancel()
        while "gradwire_requests_in_flight 0.0" not in server.metrics():
            assert server.process.poll() is None
        assert isinstance(send(opened, "GetServerInfo", b""), bytes)
