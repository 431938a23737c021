"""Refusals as statuses: small enough to travel, whole enough to help."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

import gradwire as gw
from gradwire import _errors
from gradwire.v1 import errors_pb2
from gradwire_server.errors import Finding, Reason, Refusal, refuse
from gradwire_server.service.rpc.status import CODES, to_status


def unpacked(status: Status) -> tuple[error_details_pb2.ErrorInfo, list[str]]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info, [violation.field for violation in bad.field_violations]


def test_the_reasons_are_those_of_the_contract_and_each_has_a_code_and_an_exception() -> None:
    contract = {name.removeprefix("ERROR_REASON_") for name, _ in errors_pb2.ErrorReason.items()} - {"UNSPECIFIED"}
    assert {reason.value for reason in Reason} == contract
    assert {reason.value for reason in CODES} == contract
    assert set(_errors.BY_REASON) == contract


@pytest.mark.parametrize("text", ["x" * 100_000, "ü" * 100_000, "\U0001f600" * 100_000, "%" * 100_000])
def test_a_status_stays_below_four_kilobytes(text: str) -> None:
    findings = [
        Finding(reason=Reason.INVALID_GRAPH, message=text, path=f"graph.nodes[{i}].name", metadata={"found": text})
        for i in range(20)
    ]
    status = to_status(Refusal(findings, 100_000))
    assert status.ByteSize() < 4096
    info, paths = unpacked(status)
    assert info.metadata["findings"] == "100000"
    assert int(info.metadata["left_out"]) == 100_000 - max(1, len(paths))


def test_findings_travel_with_their_paths() -> None:
    findings = [Finding(reason=Reason.INVALID_TENSOR, message=f"tensor {i}", path=f'tensors["{i}"]') for i in range(3)]
    status = to_status(Refusal(findings))
    info, paths = unpacked(status)
    assert (info.reason, info.domain) == ("INVALID_TENSOR", "gradwire")
    assert paths == ['tensors["0"]', 'tensors["1"]', 'tensors["2"]']
    error = _errors.from_status(status)
    assert isinstance(error, gw.InvalidRequestError)
    assert [finding.message for finding in error.findings] == ["tensor 0", "tensor 1", "tensor 2"]
    assert error.node == "0"


def test_it_says_when_to_try_again_where_that_makes_sense() -> None:
    for reason in Reason:
        error = _errors.from_status(to_status(refuse(reason, "text")))
        assert type(error) is _errors.BY_REASON[reason.value]
        assert error.reason == reason.value
        assert (error.retry_after is not None) == (reason in (Reason.OVERLOADED, Reason.SHUTTING_DOWN))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3, gw.InvalidRequestError),
        (4, gw.DeadlineExceededError),
        (7, gw.AuthenticationError),
        (8, gw.LimitExceededError),
        (12, gw.UnimplementedError),
        (13, gw.ServerError),
        (14, gw.UnavailableError),
        (16, gw.AuthenticationError),
        (2, gw.ServerError),
    ],
)
def test_a_status_without_a_reason_of_ours_goes_by_its_code(code: int, kind: type[gw.GradwireError]) -> None:
    error = _errors.from_status(Status(code=code, message="said by a proxy"))
    assert type(error) is kind
    assert (str(error), error.reason) == ("said by a proxy", None)
