"""What nobody else may learn: data in logs, metrics and answers, faults inside, and what is not offered."""

from __future__ import annotations

import json
import struct
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from tests.hostile import broken_server
from tests.hostile.messages import compute, graph, numbers, op, parameter, valid
from tests.integration.raw import SERVICE, Refused, channel, refused, send
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.waiting import eventually

MARKER = 98765.4321875
"""Exact in float64, so that no rounding hides it."""
NAME, TOKEN, AGENT = "name-of-a-secret", "token-of-a-secret", "agent-of-a-secret"


def marked(**fields: Any) -> Any:
    """A request for log w at numbers of which one is the marker."""
    return compute(
        graph(parameter(NAME, 2), op("log", 0), op("sum", 1, name="")), {NAME: numbers(MARKER, -1)}, **fields
    )


async def test_no_data_of_a_call_is_logged_counted_or_told_to_another(tmp_path: Any) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    metadata = (("authorization", f"Bearer {TOKEN}"), ("x-secret", TOKEN))
    hidden = [
        TOKEN,
        AGENT,
        str(MARKER),
        "98765.4",
        struct.pack("<d", MARKER).hex(),
        repr(struct.pack("<d", MARKER))[2:-1],
    ]
    told: list[str] = []
    with ServerProcess(flags=("--log-level=debug", f"--tokens-file={tokens}")) as server:
        with grpc.insecure_channel(server.address, [("grpc.primary_user_agent", AGENT)]) as opened:
            answer: Any = None
            for method, kind in (
                ("ComputeGradients", pb.ComputeGradientsRequest),
                ("TraceGraph", pb.TraceGraphRequest),
                ("CheckGradients", pb.CheckGradientsRequest),
            ):
                good = marked()
                raw = kind(graph=good.graph, tensors=good.tensors).SerializeToString()
                call: Any = opened.unary_unary(f"/{SERVICE}/{method}")
                answer = call(raw, metadata=metadata)
                assert answer
                # Cut short, so that the values stand in what cannot be read.
                for bad in (raw[:-3], raw + b"\xff"):
                    with pytest.raises(grpc.RpcError) as raised:
                        call(bad, metadata=metadata)
                    told.append(refused(raised.value).message)
            call = opened.unary_unary(f"/{SERVICE}/ComputeGradients")
            for bad in (marked(reject_non_finite=True, outputs=[9]), marked(dtype=77)):
                with pytest.raises(grpc.RpcError) as raised:
                    call(bad.SerializeToString(), metadata=metadata)
                told.append(refused(raised.value).message)
            await eventually(lambda: server.log.count('"event": "call"') >= 3 + 6 + 2)
        page = server.metrics()
        server.stop()
        for text in (server.log, page, *told):
            assert [word for word in hidden if word in text] == []
        assert NAME not in server.log + page


def test_a_fault_inside_is_told_by_its_id_alone_and_the_server_lives() -> None:
    w = gw.parameter("w")
    with ServerProcess(module=broken_server.__name__) as server:
        with channel(server.address) as opened:
            answer = send(opened, "ComputeGradients", valid())
            assert isinstance(answer, Refused)
            assert (answer.code, answer.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
            assert answer.metadata.keys() == {"error_id"}
            assert answer.metadata["error_id"] in answer.message
        with gw.connect(server.address) as client, client.stream(w * w) as stream:
            errors = []
            for call in (client.value_and_grad(w * w), stream):
                with pytest.raises(gw.ServerError) as raised:
                    call(w=1.0)
                errors.append(raised.value)
            assert client.info().version
            assert client.trace(w * w, w=3.0).nodes
        assert series(server)['gradwire_refused_total{reason="INTERNAL"}'] == 3
        server.stop()
        faults = [line for line in map(json.loads, server.log.splitlines()) if line["event"] == "internal error"]
        assert [line["error_id"] for line in faults][1:] == [error.metadata["error_id"] for error in errors]
        assert [line["request_id"] for line in faults][1:] == [error.request_id for error in errors]
        for line in faults:
            assert "ZeroDivisionError" in line["exception"]
        for text in (answer.message, *map(str, errors)):
            assert "ZeroDivision" not in text
            assert broken_server.SECRET not in text


def test_what_is_not_offered_is_not_there(server: ServerProcess) -> None:
    listing = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()

    def ask(address: str, method: str) -> Any:
        with channel(address) as opened:
            call: Any = opened.stream_stream(method)
            try:
                return list(call(iter([listing])))
            except grpc.RpcError as error:
                return refused(error).code

    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert ask(server.address, "/grpc.channelz.v1.Channelz/GetServers") is grpc.StatusCode.UNIMPLEMENTED
    assert len(ask(server.address, reflection)) == 1
    with ServerProcess(flags=("--no-reflection",)) as other:
        assert ask(other.address, reflection) is grpc.StatusCode.UNIMPLEMENTED
        with channel(other.address) as opened:
            assert isinstance(send(opened, "ComputeGradients", valid()), bytes)
