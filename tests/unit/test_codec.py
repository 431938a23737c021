"""Messages to objects of the engine, and back."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from gradwire.v1 import gradient_service_pb2, graph_pb2, tensor_pb2
from gradwire_server import codec
from gradwire_server.codec.scalars import decode_columns
from gradwire_server.engine import (
    OPS,
    EdgeTrace,
    Evaluation,
    Input,
    Limits,
    NodeTrace,
    Parameter,
    Ties,
    Trace,
    unhurried,
)
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.errors import Refusal
from tests.unit.engine.messages import constant, graph, op, parameter

LIMITS = Limits()
F64 = np.dtype(np.float64)


def test_the_contract_has_the_ops_of_the_table() -> None:
    kinds = {field.name for field in graph_pb2.Node.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert kinds - {"parameter", "input", "constant", "scalars"} == set(OPS)


@pytest.mark.parametrize("kind", list(OPS))
def test_every_field_of_an_op_reaches_the_engine(kind: str) -> None:
    node = op(kind, name="it")
    box: Message = getattr(node, kind)
    fields = {field.name for field in box.DESCRIPTOR.fields}
    decoded = codec.decode_graph(graph(node), LIMITS)
    assert (decoded.names, decoded.kind(0), len(decoded)) == ({0: "it"}, kind, 1)
    assert {"operands", *decoded.attributes.get(0, {})} == fields


def test_a_graph() -> None:
    nodes = [
        parameter("w", 2, 3),
        graph_pb2.Node(name="i", input=graph_pb2.Input(shape=[4], per_example=True, dtype=tensor_pb2.DTYPE_INT64)),
        constant([1, 2]),
        constant(0.5),
        op("power", 0, exponent=2.5),
        op("mul", 4, 2**32 - 1, 0, name="product"),
        op("sum", 5, axes=[-1], keepdims=True),
    ]
    decoded = codec.decode_graph(graph(*nodes, loss=3, ties=graph_pb2.TIE_RULE_SPLIT), LIMITS)
    w, i, vector = decoded.contents.values()
    assert list(decoded.contents) == [0, 1, 2]
    assert w == Parameter(name="w", shape=(2, 3))
    assert i == Input(name="i", shape=(4,), per_example=True, integer=True)
    assert isinstance(vector, np.ndarray)
    assert vector.tolist() == [1, 2]
    kinds = "PARAMETER", "INPUT", "CONSTANT", "CONSTANT", "POWER", "MUL", "SUM"
    assert decoded.opcodes.tolist() == [Opcode[kind] for kind in kinds]
    np.testing.assert_array_equal(decoded.numbers, [np.nan, np.nan, np.nan, 0.5, 2.5, np.nan, np.nan])
    assert [decoded.operands_of(node) for node in range(7)] == [[], [], [], [], [0], [4, -1, 0], [5]]
    assert decoded.names == {0: "w", 1: "i", 5: "product"}
    assert decoded.attributes == {6: {"axes": (-1,), "keepdims": True}}
    assert decoded.origins is None
    assert (decoded.loss, decoded.ties) == (3, Ties.SPLIT)


def swarm(**columns: Any) -> graph_pb2.Graph:
    return graph(parameter("w"), op("scalars", 0, **columns), op("sum", 1))


def packed(**columns: Any) -> Any:
    """A serialized node of packed operations."""
    return np.frombuffer(graph_pb2.Scalars(operands=[0], **columns).SerializeToString(), np.uint8)


def test_columns_are_arrays_of_one_axis() -> None:
    given = {
        "constants": [0.5, -0.0, np.inf],
        "ops": [graph_pb2.SCALAR_OP_ADD, graph_pb2.SCALAR_OP_POWER],
        "arities": [2**32 - 1],
        "arguments": [0, 2**31, 2**32 - 1],
        "exponents": [2.5],
        "results": [],
    }
    columns = decode_columns(packed(**given), unhurried)
    assert {"operands", *columns} == {field.name for field in graph_pb2.Scalars.DESCRIPTOR.fields}
    assert {name: array.tolist() for name, array in columns.items()} == given
    assert np.signbit(columns["constants"]).tolist() == [False, True, False]
    kinds = {name: array.dtype.str for name, array in columns.items()}
    assert kinds == {name: "<f8" if name in ("constants", "exponents") else "<i8" for name in given}


def test_packed_operations_become_nodes() -> None:
    columns: dict[str, Any] = {"constants": [3.0], "ops": [2, 9], "arguments": [0, 1, 2], "exponents": [2.5]}
    decoded = codec.decode_graph(swarm(**columns, results=[3, 2]), LIMITS)
    kinds = "PARAMETER", "CONSTANT", "MUL", "POWER", "STACK", "SUM"
    assert decoded.opcodes.tolist() == [Opcode[kind] for kind in kinds]
    assert [decoded.operands_of(node) for node in range(6)] == [[], [], [0, 1], [2], [3, 2], [4]]
    np.testing.assert_array_equal(decoded.numbers, [np.nan, 3, np.nan, 2.5, np.nan, np.nan])
    origins = decoded.origins
    assert origins is not None
    assert origins.sent.tolist() == [0, 1, 1, 1, 1, 2]
    assert origins.position.tolist() == [-1, 1, 2, 3, -1, -1]
    assert (origins.nodes.tolist(), decoded.loss) == ([0, 4, 5], 5)


@pytest.mark.parametrize(("op", "words"), [(0, "no op"), (18, "the unknown op 18"), (-7, "the unknown op -7")])
def test_an_unknown_operation_is_named_by_its_number(op: Any, words: str) -> None:
    with pytest.raises(
        Refusal, match=rf"\(nodes\[1\], scalars\) has {words} for operation 17; allowed are SCALAR_OP_ADD,"
    ):
        codec.decode_graph(swarm(ops=[1] * 17 + [op]), LIMITS)


def test_packed_operations_count_as_nodes_and_their_arguments_as_operands() -> None:
    limits = Limits(max_nodes=7, max_edges=10)
    fits = {"ops": [1] * 4, "arguments": [0] * 8, "results": [1]}
    codec.decode_graph(swarm(**fits), limits)
    for columns, setting in (
        ({"ops": [1] * 5}, "max_nodes"),
        ({"arguments": [0] * 9}, "max_edges"),
        ({"results": [0] * 11}, "max_edges"),
    ):
        with pytest.raises(Refusal) as raised:
            codec.decode_graph(swarm(**fits | columns), limits)
        assert raised.value.findings[0].metadata["setting"] == setting


def test_reading_columns_asks_whether_anybody_waits() -> None:
    def give_up() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            raise TimeoutError

    asked: list[int] = []
    columns = packed(ops=[1], arguments=[0, 0], results=[1])
    with pytest.raises(TimeoutError):
        decode_columns(columns, give_up)
    decode_columns(columns, give_up)
    assert len(asked) >= 3 + len(graph_pb2.Scalars.DESCRIPTOR.fields) - 1


ARRAYS: list[Any] = [
    np.array(1.5),
    np.array([1, 2, 3], np.float32),
    np.arange(6.0).reshape(2, 3),
    np.zeros((0, 3)),
    np.array([[1, -2]], np.int64),
    np.array([np.nan, np.inf, -0.0, 5e-324]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=range(len(ARRAYS)))
def test_tensors_keep_their_bits(array: Any) -> None:
    request = np.dtype(np.float32) if array.dtype == np.float32 else F64
    decoded = codec.decode_tensor(codec.encode_tensor(array), request, 32)
    assert (decoded.dtype, decoded.shape, decoded.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (tensor_pb2.DTYPE_UNSPECIFIED, [0.1, 2], np.array([0.1, 2])),
        (tensor_pb2.DTYPE_INT64, [-3, 2], np.array([-3, 2], np.int64)),
    ],
)
def test_numbers_typed_by_hand(dtype: Any, values: list[float], expected: Any) -> None:
    decoded = codec.decode_tensor(tensor_pb2.Tensor(dtype=dtype, shape=[2], values=values), F64, 32)
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.dtype == expected.dtype


@pytest.mark.parametrize("values", [[0.5], [np.nan], [1e30], [2.0**63]])
def test_indices_typed_by_hand_are_whole(values: list[float]) -> None:
    with pytest.raises(codec.TensorError, match=r"whole|int64|DTYPE_INT64"):
        codec.decode_tensor(tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_INT64, shape=[1], values=values), F64, 32)


def test_a_constant_may_have_either_float_dtype() -> None:
    narrow = codec.encode_tensor(np.array([0.1], np.float32))
    node = graph_pb2.Node(constant=graph_pb2.Constant(value=narrow))
    value = codec.decode_graph(graph(node), LIMITS).contents[0]
    assert isinstance(value, np.ndarray)
    assert (value.dtype, value.tolist()) == (F64, [float(np.float32(0.1))])


@pytest.mark.timeout(120)
def test_many_gradients_follow_in_frames() -> None:
    gradients = {f"p{i}": np.array(1.0) for i in range(100_000)}
    evaluation = Evaluation(loss=np.array(1.0), gradients=gradients, outputs={}, non_finite=None, examples=1, blocks=0)
    response, announced = codec.encode_evaluation(evaluation, 0.0, unhurried, list(gradients))
    assert (len(response.gradients), len(announced)) == (0, 100_000)


def test_every_wrong_node_is_found_at_once() -> None:
    nodes = [
        graph_pb2.Node(name="a"),
        graph_pb2.Node(name="b", constant=graph_pb2.Constant(value=tensor_pb2.Tensor(shape=[2], raw=b"123"))),
        graph_pb2.Node(name="c", parameter=graph_pb2.Parameter(shape=[1] * 40)),
    ]
    with pytest.raises(Refusal) as raised:
        codec.decode_graph(graph_pb2.Graph(nodes=nodes), LIMITS)
    assert [finding.path.partition(".")[0] for finding in raised.value.findings] == ["nodes[0]", "nodes[1]", "nodes[2]"]


def given_up(after: int) -> Any:
    """A checkpoint that is passed so many times."""
    passes = iter(range(after))

    def checkpoint() -> None:
        if next(passes, None) is None:
            raise InterruptedError

    return checkpoint


def test_checkpoints_are_passed_while_tensors_are_read() -> None:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT64, values=[1])
    request = gradient_service_pb2.TraceGraphRequest(tensors={f"p{i}": tensor for i in range(2000)})
    with pytest.raises(InterruptedError):
        codec.decode_arrays(request, F64, LIMITS, given_up(3))


def test_checkpoints_are_passed_while_a_trace_is_written() -> None:
    one = np.array(1.0)
    node = NodeTrace(name="n", op="add", value=one, gradient=one, operands=(EdgeTrace(node=0, gradient=one),))
    with pytest.raises(InterruptedError):
        codec.encode_trace(Trace(nodes=(node,) * 2000, non_finite=None), given_up(3))
    wide = replace(node, operands=node.operands * 2000)
    with pytest.raises(InterruptedError):
        codec.encode_trace(Trace(nodes=(wide,), non_finite=None), given_up(3))


def test_checkpoints_are_passed_while_gradients_are_written() -> None:
    gradients = {f"p{i}": np.array(1.0) for i in range(2000)}
    evaluation = Evaluation(loss=np.array(1.0), gradients=gradients, outputs={}, examples=1, blocks=0, non_finite=None)
    with pytest.raises(InterruptedError):
        codec.encode_evaluation(evaluation, 0.0, given_up(3))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("fields", "words"),
    [(0, "no kind set"), (1, "(field 1023)"), (5_000_000, "(15000000 bytes)")],
)
def test_a_node_of_a_kind_that_the_server_does_not_know(fields: int, words: str) -> None:
    node = graph_pb2.Node.FromString(b"\xf8\x3f\x00" * fields)
    node.name = "n"
    with pytest.raises(Refusal, match=re.escape(words)):
        codec.decode_graph(graph_pb2.Graph(nodes=[node]), LIMITS)


@pytest.mark.filterwarnings("error")
def test_a_number_that_float32_has_no_room_for_is_infinite() -> None:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, values=[1e300])
    request = gradient_service_pb2.TraceGraphRequest(tensors={"w": tensor})
    assert codec.decode_arrays(request, np.dtype(np.float32), LIMITS, unhurried)["w"] == np.inf
    node = graph_pb2.Node(constant=graph_pb2.Constant(value=tensor))
    assert codec.decode_graph(graph(node), LIMITS).numbers.tolist() == [np.inf]
