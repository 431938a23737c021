"""Bad requests: what each is told, and that the next good one does not notice.

Codes are those of gRPC; none is ever INTERNAL or UNKNOWN.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from tests.integration.raw import SERVICE, Refused, channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.waiting import eventually

INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
F64, F32, I64 = tensor_pb2.DTYPE_FLOAT64, tensor_pb2.DTYPE_FLOAT32, tensor_pb2.DTYPE_INT64

Node = graph_pb2.Node
Tensor = tensor_pb2.Tensor


@dataclass(frozen=True)
class Bad:
    """A request, and what it is told."""

    name: str
    method: str
    request: Callable[[], bytes | Message]
    code: grpc.StatusCode
    reason: str
    words: tuple[str, ...]
    path: str = ""
    service: str = SERVICE


def numbers(*values: float) -> Any:
    return Tensor(dtype=F64, shape=[len(values)], raw=struct.pack(f"<{len(values)}d", *values))


def scalar(value: float) -> Any:
    return Tensor(values=[value])


def graph(*nodes: Any, loss: int = -1) -> Any:
    return graph_pb2.Graph(nodes=nodes, loss=loss % max(len(nodes), 1))


def parameter(name: str, *shape: int) -> Any:
    node = Node(name=name)
    node.parameter.shape.extend(shape)
    node.parameter.SetInParent()
    return node


def per_example(name: str, *shape: int) -> Any:
    node = Node(name=name)
    node.input.shape.extend(shape)
    node.input.per_example = True
    return node


def op(kind: str, *operands: int, name: str = "culprit", **fields: Any) -> Any:
    node = Node(name=name)
    box = getattr(node, kind)
    box.SetInParent()
    box.operands.extend(operands)
    for field, value in fields.items():
        if isinstance(value, list):
            getattr(box, field).extend(value)
        else:
            setattr(box, field, value)
    return node


def compute(program: Any, tensors: dict[str, Any], **fields: Any) -> Any:
    return pb.ComputeGradientsRequest(graph=program, tensors=tensors, **fields)


def register(*nodes: Any, loss: int = -1) -> Callable[[], Message]:
    return lambda: pb.RegisterGraphRequest(graph=graph(*nodes, loss=loss))


def with_w(tensor: Any, **fields: Any) -> Callable[[], Message]:
    """A request for the sum of w, of two elements, with this tensor."""
    return lambda: compute(graph(parameter("w", 2), op("sum", 0)), {"w": tensor}, **fields)


def valid() -> bytes:
    request = compute(graph(parameter("w", 2), op("sum", 0)), {"w": numbers(1, 2)})
    return bytes(request.SerializeToString())


def nested(depth: int, tag: bytes) -> bytes:
    """A message field inside a message field, and so on."""
    message = b""
    for _ in range(depth):
        length = len(message)
        varint = b""
        while True:
            varint += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
            length >>= 7
            if not length:
                break
        message = tag + varint + message
    return message


def bad_utf8() -> bytes:
    request = bytes(pb.RegisterGraphRequest(graph=graph(parameter("name"))).SerializeToString())
    return request.replace(b"name", b"n\xff\xfee")


def unknown_op() -> bytes:
    # Field 999 of a node, a message.
    node = b"\xba\x3e\x00"
    wrapped = b"\x0a" + bytes([len(node)]) + node
    return b"\x0a" + bytes([len(wrapped)]) + wrapped


def many_bad_nodes() -> Any:
    return pb.RegisterGraphRequest(graph=graph(*[op("exp", 10**6, name="")] * 100_000))


def mixed() -> Any:
    return compute(
        graph(parameter("a"), parameter("b"), op("add", 0, 1)),
        {"a": Tensor(dtype=F32, raw=b"\0" * 4), "b": Tensor(dtype=F64, raw=b"\0" * 8)},
    )


def chain_of_buffers() -> Any:
    nodes = [parameter("w", 1000, 1000)]
    nodes += [op("tanh", i, name="") for i in range(1000)]
    program = graph(*nodes, op("sum", 1000))
    return compute(program, {"w": Tensor(dtype=F64, shape=[1000, 1000], raw=b"\0" * 8_000_000)})


def per_example_gradients() -> Any:
    nodes = [parameter("w", 1_000_000), per_example("x"), op("sum", 0, name=""), op("mul", 1, 2)]
    tensors = {
        "w": Tensor(dtype=F64, shape=[1_000_000], raw=b"\0" * 8_000_000),
        "x": Tensor(dtype=F64, shape=[65536], raw=b"\0" * 65536 * 8),
    }
    return compute(graph(*nodes), tensors, reduction=pb.REDUCTION_NONE)


WIRE = [
    Bad("empty", "RegisterGraph", lambda: b"", INVALID, "GRAPH_MISSING", ("graph is missing",), "graph"),
    Bad("empty-compute", "ComputeGradients", lambda: b"", INVALID, "GRAPH_MISSING", ("graph or graph_id",), "graph"),
    *(
        Bad(f"random-{method}", method, lambda: b"\xff\x13\x37" * 16 + b"\x07\x00", INVALID, "MALFORMED_MESSAGE",
            ("50 bytes", f"{method}Request"))
        for method in ("RegisterGraph", "ComputeGradients", "TraceGraph", "CheckGradients", "GetServerInfo")
    ),
    Bad("truncated", "ComputeGradients", lambda: valid()[:-3], INVALID, "MALFORMED_MESSAGE", ("bytes", "truncated")),
    Bad("not-utf-8", "RegisterGraph", bad_utf8, INVALID, "MALFORMED_MESSAGE", ("UTF-8",)),
    Bad("nested-messages", "ComputeGradients", lambda: nested(20_000, b"\x0a"), INVALID, "MALFORMED_MESSAGE",
        ("bytes",)),
    Bad("nested-groups", "ComputeGradients", lambda: b"\xfb\x3f" * 20_000 + b"\xfc\x3f" * 20_000, INVALID,
        "MALFORMED_MESSAGE", ("nested", "100")),
    Bad("over-the-cap", "ComputeGradients", lambda: valid() + b"\xfa\x3e\xff\xff\xff\x3f" + b"x" * ((128 << 20) - 1),
        EXHAUSTED, "LIMIT_EXCEEDED", ("134217728", "--max-message-bytes", "StreamGradients")),
    Bad("no-op", "RegisterGraph", register(Node(name="culprit")), INVALID, "INVALID_GRAPH",
        ('"culprit"', "no kind", "0.1.0", "softplus"), "graph.nodes[0]"),
    Bad("unknown-op", "RegisterGraph", unknown_op, INVALID, "INVALID_GRAPH",
        ("field 999", "0.1.0", "softplus"), "graph.nodes[0]"),
]  # fmt: skip

STANDARD = [
    Bad(name, method, partial(bytes, raw), INVALID, "MALFORMED_MESSAGE", ("not a valid request", word), service=service)
    for method, service in (
        ("Check", "grpc.health.v1.Health"),
        ("Watch", "grpc.health.v1.Health"),
        ("ServerReflectionInfo", "grpc.reflection.v1alpha.ServerReflection"),
    )
    for name, raw, word in (("garbage", b"\xff" * 3, "3 bytes"), ("not-utf-8", b"\x0a\x02\xff\xfe", "UTF-8"))
]

GRAPHS = [
    Bad("no-nodes", "RegisterGraph", lambda: pb.RegisterGraphRequest(graph=graph()), INVALID, "INVALID_GRAPH",
        ("no nodes",), "graph.nodes"),
    Bad("same-name", "RegisterGraph", register(parameter("w"), parameter("w")), INVALID, "INVALID_GRAPH",
        ('"w"', "nodes[0]", "nodes[1]"), "graph.nodes[1].name"),
    Bad("past-the-end", "RegisterGraph", register(parameter("w"), op("exp", 7)), INVALID, "INVALID_GRAPH",
        ('"culprit"', "operand 0", "7", "2 nodes"), "graph.nodes[1].exp.operands[0]"),
    Bad("itself", "RegisterGraph", register(parameter("w"), op("mul", 0, 1)), INVALID, "INVALID_GRAPH",
        ('"culprit"', "operand 1", "itself", "operands come first"), "graph.nodes[1].mul.operands[1]"),
    Bad("a-later-one", "RegisterGraph", register(parameter("w"), op("exp", 2), parameter("v"), loss=0), INVALID,
        "INVALID_GRAPH", ('"culprit"', "2", "later", "operands come first"), "graph.nodes[1].exp.operands[0]"),
    Bad("add-of-one", "RegisterGraph", register(parameter("w"), op("add", 0)), INVALID, "INVALID_GRAPH",
        ('"culprit"', "add", "1 operands", "2 or more"), "graph.nodes[1].add.operands"),
    Bad("sigmoid-of-three", "RegisterGraph", register(parameter("w"), op("sigmoid", 0, 0, 0)), INVALID,
        "INVALID_GRAPH", ('"culprit"', "sigmoid", "3 operands", "exactly 1"), "graph.nodes[1].sigmoid.operands"),
    Bad("max-of-none", "RegisterGraph", register(parameter("w"), op("max")), INVALID, "INVALID_GRAPH",
        ('"culprit"', "max", "0 operands", "2 or more"), "graph.nodes[1].max.operands"),
    Bad("loss-past-the-end", "RegisterGraph", lambda: pb.RegisterGraphRequest(
        graph=graph_pb2.Graph(nodes=[parameter("w")], loss=9)), INVALID, "INVALID_GRAPH",
        ("9", "1 nodes"), "graph.loss"),
    Bad("loss-no-scalar", "RegisterGraph", register(parameter("w", 3), op("exp", 0)), INVALID, "INVALID_GRAPH",
        ('"culprit"', "(3,)", "reduce it first"), "graph.loss"),
    Bad("gradient-in-nothing", "ComputeGradients", with_w(numbers(1, 2), wrt=pb.SourceNames(names=["v"])), INVALID,
        "INVALID_REQUEST", ('"v"',), "wrt.names[0]"),
    Bad("too-many-nodes", "RegisterGraph", lambda: pb.RegisterGraphRequest(
        graph=graph(parameter("w"), *[op("exp", 0, name="")] * 1_000_000)), EXHAUSTED, "LIMIT_EXCEEDED",
        ("1000001", "1000000", "max_nodes"), "graph.nodes"),
    Bad("too-many-edges", "RegisterGraph", register(parameter("w"), op("add", *[0] * 4_000_001)), EXHAUSTED,
        "LIMIT_EXCEEDED", ("4000001", "4000000", "max_edges")),
    Bad("long-name", "RegisterGraph", register(parameter("n" * 1_000_000)), INVALID, "INVALID_GRAPH",
        ("nodes[0]", "1000000 characters", "256"), "graph.nodes[0].name"),
    *(
        Bad(f"name-{i}", "RegisterGraph", register(parameter(name)), INVALID, "INVALID_GRAPH",
            ("nodes[0]", "unprintable"), "graph.nodes[0].name")
        for i, name in enumerate(["a\nb", "a\0b", "\x1b[31mred", "\u202egnp.exe"])
    ),
    Bad("many-bad-nodes", "RegisterGraph", many_bad_nodes, INVALID, "INVALID_GRAPH", ("100000", "1000000")),
    Bad("no-broadcast", "RegisterGraph", register(parameter("a", 2), parameter("b", 3), op("add", 0, 1)), INVALID,
        "INVALID_GRAPH", ('"culprit"', '"a"', '"b"', "(2,)", "(3,)"), "graph.nodes[2].add.operands"),
    *(
        Bad(f"axis-{i}", "RegisterGraph", register(parameter("w", 2), op("sum", 0, axes=axes)), INVALID,
            "INVALID_GRAPH", ('"culprit"', *words), "graph.nodes[1].sum.axes")
        for i, (axes, words) in enumerate([([1], ("1", "(2,)")), ([0, -1], ("twice",)), ([-(2**63)], (str(-(2**63)),))])
    ),
    *(
        Bad(f"shape-{i}", "RegisterGraph", register(parameter("w", *shape), op("sum", 0)), code, reason, words)
        for i, (shape, code, reason, words) in enumerate([
            ((2**32, 2**32), INVALID, "INVALID_GRAPH", ('"w"', str(2**64))),
            ((3037000500, 3037000500), INVALID, "INVALID_GRAPH", ('"w"', str(3037000500**2))),
            ((2**20, 2**20), EXHAUSTED, "LIMIT_EXCEEDED", ('"w"', str(8 * 2**40), "max_tensor_bytes")),
            ((-1,), INVALID, "INVALID_GRAPH", ('"w"', "-1", "axis 0")),
            ((-1, -5), INVALID, "INVALID_GRAPH", ('"w"', "-1", "axis 0")),
            ((0, 2**62), INVALID, "INVALID_GRAPH", ('"w"', str(2**62), "axis 1")),
            ((1,) * 1_000_000, INVALID, "INVALID_GRAPH", ('"w"', "1000000", "32")),
        ])
    ),
    Bad("broadcast-bomb", "RegisterGraph", register(parameter("a", 10**6, 1), parameter("b", 1, 10**6),
        op("mul", 0, 1), op("sum", 2, name="")), EXHAUSTED, "LIMIT_EXCEEDED",
        ('"culprit"', "(1000000, 1000000)", str(8 * 10**12), "max_tensor_bytes"), "graph.nodes[2]"),
    Bad("reshape-to-many-axes", "RegisterGraph", register(parameter("w"), op("reshape", 0, shape=[2**62] * 60_000)),
        INVALID, "INVALID_GRAPH", ('"culprit"', "60000 axes", "32"), "graph.nodes[1].reshape.shape"),
    Bad("many-axes", "RegisterGraph", register(parameter("w"), op("transpose", 0, axes=[0] * 60_000)), INVALID,
        "INVALID_GRAPH", ('"culprit"', "60000 axes", "32"), "graph.nodes[1].transpose.axes"),
    *(
        Bad(f"beside-nothing-{i}", "RegisterGraph", register(*sources, culprit, op("sum", len(sources), name="")),
            INVALID, "INVALID_GRAPH", ('"culprit"', *words), f"graph.nodes[{len(sources)}]")
        for i, (sources, culprit, words) in enumerate([
            ([parameter("a", 0)], op("reshape", 0, shape=[0, 2**62]), ("axis 1", str(2**62))),
            ([parameter("a", 0)], op("reshape", 0, shape=[0, 2**59, 2**59]), (str(2**118),)),
            ([parameter("a", 0, 2**59, 1), parameter("b", 0, 1, 2**59)], op("add", 0, 1), (str(2**118),)),
            ([parameter("a", 0, 2**59, 1), parameter("b", 0, 1, 2**59)], op("matmul", 0, 1), (str(2**118),)),
            ([parameter("a", 0, 2**58), Node(name="i", input=graph_pb2.Input(dtype=I64, shape=[0, 2**30]))],
                op("take", 0, 1), (str(2**88),)),
        ])
    ),
    Bad("exponent", "RegisterGraph", register(parameter("w"), op("power", 0)), INVALID, "INVALID_GRAPH",
        ('"culprit"', "exponent"), "graph.nodes[1].power.exponent"),
]  # fmt: skip

TENSORS = [
    *(
        Bad(f"shape-{i}", "ComputeGradients", with_w(Tensor(shape=shape)), INVALID, "INVALID_TENSOR", ('"w"', *words),
            'tensors["w"]')
        for i, (shape, words) in enumerate([
            ([2**32, 2**32], (str(2**64),)),
            ([3037000500, 3037000500], (str(3037000500**2),)),
            ([-1], ("-1", "axis 0")),
            ([-1, -5], ("-1", "axis 0")),
            ([0, 2**62], (str(2**62), "axis 1")),
            ([1] * 1_000_000, ("1000000", "33")),
        ])
    ),
    *(
        Bad(f"bytes-{found}", "ComputeGradients", with_w(Tensor(shape=[2], raw=b"\0" * found)), INVALID,
            "INVALID_TENSOR", ('"w"', f"{found}", "16"), 'tensors["w"]')
        for found in (15, 17, 8, 1)
    ),
    Bad("raw-and-values", "ComputeGradients", with_w(Tensor(shape=[2], raw=b"\0" * 16, values=[1, 2])), INVALID,
        "INVALID_TENSOR", ('"w"', "raw", "values"), 'tensors["w"]'),
    Bad("neither", "ComputeGradients", with_w(Tensor(shape=[2])), INVALID, "INVALID_TENSOR", ('"w"', "raw", "16"),
        'tensors["w"]'),
    Bad("values", "ComputeGradients", with_w(Tensor(shape=[2], values=[1, 2, 3])), INVALID, "INVALID_TENSOR",
        ('"w"', "3", "2"), 'tensors["w"]'),
    Bad("dtype-77", "ComputeGradients", with_w(Tensor(dtype=cast("Any", 77), shape=[2], raw=b"\0" * 16)), INVALID,
        "INVALID_TENSOR", ('"w"', "77", "DTYPE_FLOAT32", "DTYPE_FLOAT64"), 'tensors["w"]'),
    Bad("request-dtype", "ComputeGradients", with_w(numbers(1, 2), dtype=77), INVALID, "INVALID_REQUEST",
        ("77", "DTYPE_FLOAT32", "DTYPE_FLOAT64"), "dtype"),
    Bad("request-int64", "ComputeGradients", with_w(numbers(1, 2), dtype=I64), INVALID, "INVALID_REQUEST",
        ("DTYPE_INT64", "DTYPE_FLOAT64"), "dtype"),
    Bad("float32-in-float64", "ComputeGradients", mixed, INVALID, "INVALID_TENSOR", ('"a"', "float32", "float64"),
        'tensors["a"]'),
    Bad("reduction", "ComputeGradients", with_w(numbers(1, 2), reduction=9), INVALID, "INVALID_REQUEST",
        ("9", "REDUCTION_MEAN"), "reduction"),
    Bad("output", "ComputeGradients", with_w(numbers(1, 2), outputs=[5]), INVALID, "INVALID_REQUEST", ("5", "2 nodes"),
        "outputs[0]"),
    Bad("missing", "ComputeGradients", lambda: compute(graph(parameter("w", 2), op("sum", 0)), {}), INVALID,
        "INVALID_TENSOR", ('"w"', "missing", "(2,)"), 'tensors["w"]'),
    Bad("surplus", "ComputeGradients", lambda: compute(graph(parameter("w")), {"w": scalar(1), "v": scalar(2)}),
        INVALID, "INVALID_TENSOR", ('"v"', "w"), 'tensors["v"]'),
    Bad("row-indices", "ComputeGradients", lambda: compute(
        graph(Node(name="i", input=graph_pb2.Input(dtype=I64)), parameter("w", 3), op("take", 1, 0)),
        {"i": Tensor(dtype=I64, raw=b"\0" * 8), "w": numbers(1, 2, 3)}, wrt=pb.SourceNames(names=["i"])), INVALID,
        "INVALID_REQUEST", ('"i"', "int64"), "wrt.names[0]"),
    Bad("index", "ComputeGradients", lambda: compute(
        graph(Node(name="i", input=graph_pb2.Input(dtype=I64)), parameter("w", 3), op("take", 1, 0)),
        {"i": Tensor(dtype=I64, values=[3]), "w": numbers(1, 2, 3)}), INVALID, "INDEX_OUT_OF_RANGE",
        ('"culprit"', "3", "3 rows")),
    Bad("batch-sizes", "ComputeGradients", lambda: compute(
        graph(per_example("x"), per_example("y"), op("add", 0, 1)), {"x": numbers(1, 2), "y": numbers(1, 2, 3)}),
        INVALID, "INVALID_TENSOR", ('"x"', '"y"', "2", "3")),
    Bad("live-buffers", "ComputeGradients", chain_of_buffers, EXHAUSTED, "LIMIT_EXCEEDED",
        ("max_memory_bytes", str(4 << 30))),
    Bad("empty-examples", "ComputeGradients", lambda: compute(
        graph(per_example("x", 0), op("sum", 0)), {"x": Tensor(shape=[2**40, 0])}), EXHAUSTED, "LIMIT_EXCEEDED",
        ('"x"', str(2**40), str(2**31), "max_examples"), 'tensors["x"]'),
    Bad("losses-of-empty-examples", "ComputeGradients", lambda: compute(graph(per_example("x", 0), op("sum", 0)),
        {"x": Tensor(shape=[2**31, 0])}, reduction=pb.REDUCTION_NONE), EXHAUSTED, "LIMIT_EXCEEDED",
        (str(2**31), "max_memory_bytes", str(4 << 30))),
    Bad("per-example-gradients", "ComputeGradients", per_example_gradients, EXHAUSTED, "LIMIT_EXCEEDED",
        ("max_memory_bytes", str(4 << 30))),
    *(
        Bad(f"non-finite-{value}", "ComputeGradients", with_w(numbers(1, value), reject_non_finite=True),
            grpc.StatusCode.FAILED_PRECONDITION, "NON_FINITE", ('"w"', str(value), "(1,)"), "graph.nodes[0]")
        for value in (float("nan"), float("inf"))
    ),
    Bad("unknown-id", "ComputeGradients", lambda: pb.ComputeGradientsRequest(graph_id="0" * 64),
        grpc.StatusCode.NOT_FOUND, "GRAPH_NOT_FOUND", ("0" * 64, "register the graph again"), "graph_id"),
    *(
        Bad(f"id-{i}", "ComputeGradients", partial(pb.ComputeGradientsRequest, graph_id=graph_id),
            INVALID, "INVALID_REQUEST", ("graph_id", "64 lower-case hexadecimal"), "graph_id")
        for i, graph_id in enumerate(["", "abc", "G" * 64, "A" * 64, "0" * 65, "../" * 20])
    ),
    Bad("beside-nothing", "ComputeGradients", lambda: compute(
        graph(parameter("a", 0, 2**58), per_example("x"), op("sum", 0, name=""), op("mul", 1, 2)),
        {"a": Tensor(shape=[0, 2**58]), "x": numbers(*range(64))}, reduction=pb.REDUCTION_NONE),
        INVALID, "INVALID_REQUEST", ('"a"', "64 examples", str(2**64))),
    Bad("trace-missing", "TraceGraph", lambda: pb.TraceGraphRequest(graph=graph(parameter("w"))), INVALID,
        "INVALID_TENSOR", ('"w"', "missing"), 'tensors["w"]'),
    Bad("check-step", "CheckGradients", lambda: pb.CheckGradientsRequest(
        graph=graph(parameter("w")), tensors={"w": scalar(1)}, step=-1.0), INVALID, "INVALID_REQUEST",
        ("step", "-1"), "step"),
    Bad("check-tiny-step", "CheckGradients", lambda: pb.CheckGradientsRequest(
        graph=graph(parameter("w")), tensors={"w": scalar(1)}, step=1e-30), INVALID, "INVALID_REQUEST",
        ("step", "1e-30", '"w"', "larger"), "step"),
]  # fmt: skip

ROWS = [*WIRE, *STANDARD, *GRAPHS, *TENSORS]


@pytest.fixture(scope="module")
def raw(server: ServerProcess) -> Iterator[grpc.Channel]:
    with channel(server.address) as opened:
        yield opened


def handled(server: ServerProcess) -> Counter[str]:
    """How often each method ended with each code."""
    pattern = r'^grpc_server_handled_total\{grpc_code="(\w+)",grpc_method="(\w+)".*\} (.+)$'
    found = re.findall(pattern, server.metrics(), re.MULTILINE)
    return Counter({f"{method} {code}": int(float(count)) for code, method, count in found})


@pytest.mark.parametrize("bad", ROWS, ids=[f"{bad.method}-{bad.name}" for bad in ROWS])
async def test_a_bad_request_is_told_what_is_wrong(server: ServerProcess, raw: grpc.Channel, bad: Bad) -> None:
    before = handled(server)
    answer = send(raw, bad.method, bad.request(), service=bad.service)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.reason) == (bad.code, bad.reason), answer.message
    assert [word for word in bad.words if word not in answer.message] == [], answer.message
    assert answer.nbytes < 4096
    assert len(answer.message) < 1600
    assert answer.message.isprintable()
    if bad.path:
        assert any(path.startswith(bad.path) for path in answer.paths), answer.paths
    label = "".join(word.title() for word in bad.code.name.split("_"))
    # The answer may be there before the call is over.
    await eventually(lambda: handled(server) - before == {f"{bad.method} {label}": 1})
    good = send(raw, "ComputeGradients", valid())
    assert isinstance(good, bytes)
    assert np.frombuffer(pb.ComputeGradientsResponse.FromString(good).loss.raw) == 3


def test_the_first_findings_are_listed_and_the_others_counted(raw: grpc.Channel) -> None:
    answer = send(raw, "RegisterGraph", many_bad_nodes())
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


def resident(server: ServerProcess) -> int:
    """Largest memory that the server ever had, in bytes."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123  (no file of ours)
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status.read())
    return int(kilobytes) * 1024


def test_a_compression_bomb_takes_no_memory() -> None:
    bomb = bytes(1 << 30)
    with ServerProcess() as server, channel(server.address) as opened:
        before = resident(server)
        answer = send(opened, "ComputeGradients", bomb, compression=grpc.Compression.Gzip)
        assert isinstance(answer, Refused)
        assert answer.code is EXHAUSTED
        assert answer.message == "Decompressed message larger than max"
        assert resident(server) - before < 300 << 20
        assert isinstance(send(opened, "ComputeGradients", valid()), bytes)


def test_another_version_of_the_contract_is_unimplemented(raw: grpc.Channel) -> None:
    answer = send(raw, "ComputeGradients", b"", service="gradwire.v2.GradientService")
    assert isinstance(answer, Refused)
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED
    words = ("gradwire.v2.GradientService", "ComputeGradients", "gradwire.v1.GradientService", "0.1.0")
    assert [word for word in words if word not in answer.message] == [], answer.message


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
