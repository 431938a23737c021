"""Bad requests: what each is told, and that the next good one does not notice.

Codes are those of gRPC; none is ever INTERNAL or UNKNOWN.
"""

from __future__ import annotations

import re
from collections import Counter

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.version import VERSION
from tests.hostile import graphs, scalars, tensors, wire
from tests.hostile.memory import growth, resident
from tests.hostile.messages import EXHAUSTED, Bad, graph, op, parameter, valid
from tests.integration.raw import Refused, channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.waiting import eventually

ALLOWANCE = 32 << 20
"""Bytes of memory that a bad request may take whatever its size."""

PROMPTLY = 60.0
"""Seconds in which a small request is answered whatever came before."""

IN_FLIGHT = "gradwire_requests_in_flight"

ROWS = [*wire.WIRE, *wire.STANDARD, *graphs.GRAPHS, *scalars.SCALARS, *tensors.TENSORS]


def handled(server: ServerProcess) -> Counter[str]:
    """How often each method ended with each code."""
    pattern = r'^grpc_server_handled_total\{grpc_code="(\w+)",grpc_method="(\w+)".*\} (.+)$'
    found = re.findall(pattern, server.metrics(), re.MULTILINE)
    return Counter({f"{method} {code}": int(float(count)) for code, method, count in found})


@pytest.mark.parametrize("bad", ROWS, ids=[f"{bad.method}-{bad.name}" for bad in ROWS])
async def test_a_bad_request_is_told_what_is_wrong(server: ServerProcess, raw: grpc.Channel, bad: Bad) -> None:
    before = handled(server)
    made = bad.request()
    request = made.SerializeToString() if isinstance(made, Message) else made
    with growth(server.process.pid) as taken:
        answer = send(raw, bad.method, request, service=bad.service)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.reason) == (bad.code, bad.reason), answer.message
    assert [word for word in bad.words if word not in answer.message] == [], answer.message
    assert answer.nbytes < 4096
    assert len(answer.message) < 1600
    assert answer.message.isprintable()
    # Of what a caller sent it shows 64 characters at most.
    assert not re.search(r"(.)\1{64}", " ".join([answer.message, *answer.paths]))
    if bad.path:
        assert any(path.startswith(bad.path) for path in answer.paths), answer.paths
    label = "".join(word.title() for word in bad.code.name.split("_"))
    # The answer may be there before the call is over.
    refused = {f"{bad.method} {label}": 1}
    await eventually(lambda: handled(server) - before == refused)
    assert {value for name, value in series(server).items() if name.startswith(IN_FLIGHT)} == {0}
    good = send(raw, "ComputeGradients", valid(), timeout=PROMPTLY)
    assert isinstance(good, bytes)
    assert np.frombuffer(pb.ComputeGradientsResponse.FromString(good).loss.raw) == 3
    await eventually(lambda: handled(server) - before == refused | {"ComputeGradients OK": 1})
    assert taken.nbytes <= ALLOWANCE + bad.factor * len(request)


def test_the_first_findings_are_listed_and_the_others_counted(raw: grpc.Channel) -> None:
    answer = send(raw, "RegisterGraph", graphs.many_bad_nodes())
    assert isinstance(answer, Refused)
    assert 1 < len(answer.paths) <= 20
    assert answer.metadata["findings"] == "100000"
    assert int(answer.metadata["left_out"]) == 100_000 - len(answer.paths)


def test_unknown_fields_are_dropped(raw: grpc.Channel) -> None:
    message = bytes(pb.RegisterGraphRequest(graph=graph(parameter("w"))).SerializeToString())
    padding = b"\xfa\x3e" + b"\xc0\x8d\xb7\x01" + b"x" * 3_000_000
    answers = [send(raw, "RegisterGraph", raw_bytes) for raw_bytes in (message, message + padding)]
    ids = {pb.RegisterGraphResponse.FromString(a).graph_id for a in answers if isinstance(a, bytes)}
    assert len(ids) == 1
    assert not any(isinstance(answer, Refused) for answer in answers)


def test_a_compression_bomb_takes_no_memory() -> None:
    bomb = bytes(1 << 30)
    with ServerProcess() as server, channel(server.address) as opened:
        with growth(server.process.pid) as taken:
            answer = send(opened, "ComputeGradients", bomb, compression=grpc.Compression.Gzip)
        assert isinstance(answer, Refused)
        assert answer.code is EXHAUSTED
        assert answer.message == "Decompressed message larger than max"
        assert taken.nbytes < 300 << 20
        assert isinstance(send(opened, "ComputeGradients", valid()), bytes)


async def test_large_requests_that_are_refused_leave_nothing() -> None:
    large = pb.ComputeGradientsRequest(
        graph=graph(parameter("w", 8_000_001), op("sum", 0)),
        tensors={"w": tensor_pb2.Tensor(shape=[8_000_000], raw=bytes(64_000_000))},
    )
    with ServerProcess() as server, channel(server.address) as opened:
        assert isinstance(send(opened, "ComputeGradients", valid()), bytes)
        before = resident(server.process.pid)
        for request in (large.SerializeToString(), bytes([255]) * 64_000_000):
            for _ in range(8):
                assert isinstance(send(opened, "ComputeGradients", request), Refused)
        # Of what is free the server keeps one such request at most.
        await eventually(lambda: resident(server.process.pid) < before + (72 << 20))
        assert isinstance(send(opened, "ComputeGradients", valid()), bytes)


def test_another_version_of_the_contract_is_unimplemented(raw: grpc.Channel) -> None:
    answer = send(raw, "ComputeGradients", b"", service="gradwire.v2.GradientService")
    assert isinstance(answer, Refused)
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED
    words = ("gradwire.v2.GradientService", "ComputeGradients", "gradwire.v1.GradientService", VERSION)
    assert [word for word in words if word not in answer.message] == [], answer.message


def test_edges_give_the_same_bits_whatever_the_threads() -> None:
    """Ties, zeros of either sign, subnormal numbers and the flat end of relu, by example."""
    x, y = gw.input("x", per_example=True), gw.input("y", per_example=True)
    tiny = 5e-324
    rows = {"x": [1.0, 0.0, -0.0, -1.0, tiny, 0.0], "y": [1.0, 0.0, 0.0, -1.0, tiny, -tiny]}
    cases = {
        "max": (gw.maximum(x, y), [1, 0, 0, -1, tiny, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]),
        "relu": (gw.relu(x) + 0 * y, [1, 0, 0, 0, tiny, 0], [1, 0, 0, 0, 1, 0], [0] * 6),
        "product": (x * y, [1, 0, -0.0, 1, 0, -0.0], rows["y"], rows["x"]),
    }
    found = []
    for threads in (1, 2):
        with ServerProcess(flags=(f"--threads={threads}",)) as server, gw.connect(server.address) as client:
            bits = []
            for name, (loss, losses, *gradients) in cases.items():
                value, given = client.value_and_grad(loss, reduction="none", wrt=["x", "y"])(rows)
                np.testing.assert_array_equal(value, losses, name)
                np.testing.assert_array_equal([given["x"], given["y"]], gradients, name)
                bits += [array.tobytes() for array in (value, given["x"], given["y"])]
            large = client.value_and_grad(gw.sum(gw.parameter("w", shape=(3,))) * x + y)
            random = np.random.default_rng(5)
            value, given = large(w=random.normal(size=3), x=random.normal(size=300_000), y=random.normal(size=300_000))
            bits += [np.asarray(value).tobytes(), given["w"].tobytes()]
        found.append(bits)
    assert found[0] == found[1]


def test_odd_but_good_requests(server: ServerProcess) -> None:
    """A chain of 100,000 nodes, deep sharing, tails, and names that are merely strange."""
    with gw.connect(server.address) as client:
        chain = gw.parameter("w")
        for _ in range(99_999):
            chain = chain + 1
        value, gradients = client.value_and_grad(chain)(w=1.0)
        assert (value, gradients["w"]) == (100_000, 1)
        shared = gw.parameter("w")
        for _ in range(1000):
            shared = shared * shared
        assert client.value_and_grad(shared)(w=1.0)[1]["w"] == 2.0**1000
        tails = client.value_and_grad(gw.sum(gw.sigmoid(gw.parameter("w", 2)))).evaluate(w=[1e4, -1e4])
        assert (tails.loss, tails.non_finite) == (1, None)
        for name in ("%s", "{}", "ключ", "a b", '"quoted"', "$(rm -rf)"):
            assert client.value_and_grad(gw.parameter(name))({name: 1.0})[1] == {name: 1}
            with pytest.raises(gw.InvalidRequestError) as raised:
                client.value_and_grad(gw.parameter(name))({name: [1.0]})
            assert raised.value.node == name
        deepest = gw.sum(gw.parameter("w", (1,) * 32) * gw.input("x", (1,) * 32, per_example=True))
        for reduction in ("mean", "none"):
            function = client.value_and_grad(deepest, reduction=reduction)
            gradient = function(w=np.ones((1,) * 32), x=np.array([1.0, 3.0]).reshape(2, *(1,) * 32))[1]["w"]
            assert gradient.ravel().tolist() == ([2] if reduction == "mean" else [1, 3])
        unused = gw.graph(gw.parameter("w") * 1)
        unused.nodes.append(parameter("idle", 2))
        assert client.value_and_grad(unused)(w=1.0, idle=[1, 2])[1]["idle"].tolist() == [0, 0]
    with channel(server.address) as opened:
        answer = send(opened, "RegisterGraph", pb.RegisterGraphRequest(graph=unused))
        assert isinstance(answer, bytes)
        sources = pb.RegisterGraphResponse.FromString(answer).signature.sources
        assert {source.name: source.unused for source in sources} == {"w": False, "idle": True}
