"""What a message is said to hold before it is parsed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server import codec
from gradwire_server.codec import fields as wire
from gradwire_server.codec.counting import check_counts, count
from gradwire_server.codec.parsing import UNCOUNTED
from gradwire_server.errors import Refusal
from gradwire_server.limits import Limits

KINDS = [
    pb.RegisterGraphRequest,
    pb.ComputeGradientsRequest,
    pb.TraceGraphRequest,
    pb.CheckGradientsRequest,
    pb.StreamGradientsRequest,
    pb.GetServerInfoRequest,
]
UNKNOWN = (
    b"\xf8\x3e\xff\x01"  # field 1007: a varint
    b"\xf9\x3e12345678"  # eight bytes
    b"\xfd\x3e1234"  # four bytes
    b"\xfa\x3e\x02\x0a\x00"  # bytes that look like a field
    b"\xfb\x3e\x0a\x00\x0b\x08\x01\x0c\xfc\x3e"  # a group of two fields, of which the second is a group of one
)
IN_UNKNOWN = 8


def some(field: FieldDescriptor, random: np.random.Generator) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = "é" * int(random.integers(200))
            return text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return random.normal()
        case FieldDescriptor.CPPTYPE_BOOL | FieldDescriptor.CPPTYPE_ENUM:
            return 1
        case FieldDescriptor.CPPTYPE_INT64:
            return -1 >> int(random.integers(1, 64)) if random.random() < 0.5 else int(random.integers(2**62))
        case _:
            return int(random.integers(1, 2 ** int(random.integers(1, 33))))


def fill(message: Any, random: np.random.Generator) -> None:
    """Set about half of the fields, at random."""
    for position in random.permutation(len(message.DESCRIPTOR.fields)):
        field = message.DESCRIPTOR.fields[position]
        there = getattr(message, field.name)
        many = range(random.integers(5))
        if random.random() < 0.5:
            continue
        if field.message_type is None:
            if field.is_repeated:
                there.extend(some(field, random) for _ in many)
            else:
                setattr(message, field.name, some(field, random))
        elif field.message_type.GetOptions().map_entry:
            for i in many:
                fill(there[str(i)], random)
        elif field.is_repeated:
            for _ in many:
                fill(there.add(), random)
        else:
            there.SetInParent()
            fill(there, random)


def held(message: Any) -> tuple[Counter[str], int, int]:
    """How many of each name the parsed message has, of packed doubles one; its fields; its packed varints."""
    elements: Counter[str] = Counter()
    fields = numbers = 0
    for field, value in message.ListFields():
        entries = field.message_type is not None and field.message_type.GetOptions().map_entry
        packed = field.is_repeated and field.is_packed
        doubles = packed and field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE
        elements[field.name] += len(value) if field.is_repeated and not doubles else 1
        numbers += len(value) if packed and not doubles else 0
        fields += len(value) if field.is_repeated and not packed else 1
        if entries:
            elements.update(key=len(value), value=len(value))
            fields += 2 * len(value)
        inner = value.values() if entries else value if field.is_repeated else [value]
        for child in inner if field.message_type is not None else ():
            names, *more = held(child)
            elements += names
            fields += more[0]
            numbers += more[1]
    return elements, fields, numbers


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_what_the_parsed_message_has(kind: type[Message]) -> None:
    random = np.random.default_rng(7)
    seen: Counter[str] = Counter()
    for _ in range(300):
        message = kind()
        fill(message, random)
        counts = count(kind, message.SerializeToString() + UNKNOWN)
        elements, fields, numbers = held(message)
        assert counts == (+elements, fields + IN_UNKNOWN, numbers)
        seen += elements
    if kind is pb.ComputeGradientsRequest:
        assert min(seen[name] for name in ("nodes", "operands", "tensors", "names", "outputs")) > 50


def test_numbers_that_are_not_packed_count_alike() -> None:
    unpacked = b"\x0a\x0e\x0a\x0c\x2a\x0a\x08\x00\x08\x01\x08\x02\x08\x03\x08\x04"
    graph = pb.RegisterGraphRequest.FromString(unpacked).graph
    assert graph == graph_pb2.Graph(nodes=[graph_pb2.Node(add=graph_pb2.Add(operands=range(5)))])
    assert count(pb.RegisterGraphRequest, unpacked) == ({"graph": 1, "nodes": 1, "add": 1, "operands": 5}, 8, 0)


def test_bytes_that_are_no_message_are_read_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(8)
    spoilt = []
    for _ in range(600):
        message = pb.ComputeGradientsRequest()
        fill(message, random)
        raw = np.frombuffer(message.SerializeToString(), np.uint8).copy()
        for _ in range(5 if len(raw) else 0):
            raw[random.integers(len(raw))] = random.choice([0x7F, 0x80, 0xFF, *range(32)])
        spoilt.append(raw.tobytes())
    compiled = [count(pb.ComputeGradientsRequest, raw) for raw in spoilt]
    # Not compiled, a kernel raises where it reads what is not there.
    kernels: Any = wire
    monkeypatch.setattr("gradwire_server.codec.counting.count_fields", kernels.count_fields.py_func)
    monkeypatch.setattr(kernels, "_varint", kernels._varint.py_func)  # noqa: SLF001  (which it calls)
    assert [count(pb.ComputeGradientsRequest, raw) for raw in spoilt] == compiled
    assert sum(counts.elements["operands"] for counts in compiled) > 100


def test_what_is_cut_off_counts_as_far_as_it_goes() -> None:
    message = pb.ComputeGradientsRequest()
    fill(message, np.random.default_rng(9))
    raw = message.SerializeToString()
    found = [count(pb.ComputeGradientsRequest, raw[:length]).fields for length in range(len(raw) + 1)]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] == held(message)[1]


LIMITS = Limits(max_nodes=10, max_edges=20)
ADDS = pb.RegisterGraphRequest(
    graph=graph_pb2.Graph(nodes=[graph_pb2.Node(add=graph_pb2.Add(operands=[0] * 7))] * 3)
).SerializeToString()
REFUSED = [
    (pb.RegisterGraphRequest, b"\x0a\x16" + b"\x0a\0" * 11, "11 nodes", "at most 10 (max_nodes)", "graph.nodes"),
    (pb.RegisterGraphRequest, ADDS, "21 operands", "at most 20 (max_edges)", "graph.nodes"),
    (pb.TraceGraphRequest, b"\x22\0" * 11, "11 tensors", "at most 10 nodes (max_nodes)", "tensors"),
    (pb.CheckGradientsRequest, b"\x32\x16" + b"\x0a\0" * 11, "11 names of sources", "10 nodes", "wrt.names"),
    (pb.ComputeGradientsRequest, b"\x3a\x0b" + bytes(11), "11 outputs", "10 nodes", "outputs"),
    (pb.StreamGradientsRequest, b"\x12\x16" + b"\x12\0" * 11, "11 tensors in frames", "10 nodes", "framed"),
    (pb.TraceGraphRequest, b"\x22\x69\x12\x67\x12\x65" + bytes(101), "101 numbers in packed", "at most 100", ""),
    (pb.GetServerInfoRequest, b"\x08\0" * 101, "101 fields", "at most 100 (max_edges + 8 max_nodes)", ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "raw", "found", "limit", "path"), REFUSED, ids=[row[2] for row in REFUSED])
def test_more_than_a_request_may_hold_is_refused(
    kind: type[Message], raw: bytes, found: str, limit: str, path: str
) -> None:
    with pytest.raises(Refusal) as refused:
        check_counts(kind, raw, LIMITS)
    [finding] = refused.value.findings
    assert found in finding.message
    assert limit in finding.message
    assert (finding.reason, finding.path) == ("LIMIT_EXCEEDED", path)


def test_small_messages_are_not_counted() -> None:
    field = b"\x08\0"
    codec.parse(pb.GetServerInfoRequest, field * (UNCOUNTED // 2), LIMITS)
    with pytest.raises(Refusal, match="fields"):
        codec.parse(pb.GetServerInfoRequest, field * (UNCOUNTED // 2 + 1), LIMITS)
