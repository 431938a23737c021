"""Graphs of the wire in columns: what is refused, what is worked out, and which graphs have one id."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

import gradwire as gw
from gradwire._graphs.graph import build_graph
from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire_server.codec.graphs import decode_graph
from gradwire_server.engine.graph.checking import check_graph
from gradwire_server.engine.graph.graph import Input, Parameter, Ties
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.graph.ops import OPS
from gradwire_server.errors import Reason
from gradwire_server.limits import Limits
from tests.unit.engine.messages import I64, constant, given, graph, op, parameter, refused, taken
from tests.unit.engine.swarms import operations_of, swarms

NARY = ("add", "mul", "max")
UNARY = ("sigmoid", "exp", "log", "tanh", "softplus")
REDUCING = ("sum", "reduce_max", "logsumexp")


class TestColumns:
    def test_every_op_of_the_contract_is_in_the_table_but_the_packed_ones(self) -> None:
        kinds = {field.name for field in graph_pb2.Node.DESCRIPTOR.oneofs_by_name["kind"].fields}
        assert kinds - {"parameter", "input", "constant", "scalars"} == set(OPS)
        assert all(Opcode[name.upper()] == entry.opcode for name, entry in OPS.items())

    def test_a_graph(self) -> None:
        message = graph(
            parameter("w", 2, 3),
            given("i", 4, per_example=True, dtype=I64),
            constant([1, 2]),
            constant(-0.0, "zero"),
            op("power", 3, exponent=2.5, name="p"),
            op("add", 4, 3, 4),
            op("sum", 0, axes=[-1], keepdims=True),
            ties=graph_pb2.TIE_RULE_SPLIT,
            loss=5,
        )
        found = decode_graph(message, Limits())
        kinds = ["PARAMETER", "INPUT", "CONSTANT", "CONSTANT", "POWER", "ADD", "SUM"]
        assert [Opcode(code).name for code in found.opcodes] == kinds
        assert [found.operands_of(i) for i in range(7)] == [[], [], [], [], [3], [4, 3, 4], [0]]
        assert found.names == {0: "w", 1: "i", 3: "zero", 4: "p"}
        assert found.contents.keys() == {0, 1, 2}
        assert found.contents[0] == Parameter(name="w", shape=(2, 3))
        assert found.contents[1] == Input(name="i", shape=(4,), per_example=True, integer=True)
        assert np.array_equal(found.contents[2], [1.0, 2.0])  # type: ignore[arg-type]
        assert (found.numbers[4], str(found.numbers[3]), np.isnan(found.numbers[5])) == (2.5, "-0.0", True)
        assert found.attributes == {6: {"axes": (-1,), "keepdims": True}}
        assert (found.loss, found.ties, found.origins) == (5, Ties.SPLIT, None)
        assert [found.label(i) for i in (0, 2, 5)] == ["w", "constant_2", "add_5"]

    def test_what_a_later_contract_adds_is_passed_over(self) -> None:
        """Unknown fields of every type, in every message, and groups in them."""
        unknown = b"\xf8\x3f\x07" + b"\xf9\x3f" + b"\x01" * 8 + b"\xfd\x3f" + b"\x01" * 4
        unknown += b"\xfa\x3f\x03\x0a\x01\x00" + b"\xfb\x3f\x08\x05\x0b\x12\x01\x00\x0c\xfc\x3f"
        message = graph(parameter("w"), op("exp", 0), op("power", 1, exponent=3.0), op("add", 1, 2))
        plain = taken(message)
        for node in message.nodes[1:]:
            getattr(node, str(node.WhichOneof("kind"))).MergeFromString(unknown)
        for node in message.nodes:
            node.MergeFromString(unknown)
        message.MergeFromString(unknown)
        assert taken(graph_pb2.Graph.FromString(message.SerializeToString())).graph_id == plain.graph_id

    def test_shapes_examples_and_sources(self) -> None:
        checked = taken(
            graph(
                parameter("w", 3),
                given("x", 3, per_example=True),
                parameter("unused"),
                op("mul", 0, 1),
                op("sum", 3),
                op("logsumexp", 0, axes=[-1], keepdims=True),
                op("reshape", 0, shape=[-1, 1]),
                op("transpose", 6),
                loss=4,
            )
        )
        assert [checked.shape(i) for i in range(8)] == [(3,), (3,), (), (3,), (), (1,), (3, 1), (1, 3)]
        assert checked.per_example.tolist() == [False, True, False, True, True, False, False, False]
        assert [str(source) for source in checked.sources if source.unused] == ['parameter "unused"']
        assert checked.graph.attributes == {
            4: {"axes": (0,), "keepdims": False},
            5: {"axes": (0,), "keepdims": True},
            6: {"shape": (3, 1)},
            7: {"axes": (1, 0)},
        }
        assert (checked.batched, checked.size(6)) == (True, 3)

    @pytest.mark.parametrize("kind", NARY)
    def test_one_operand_is_enough_for(self, kind: str) -> None:
        assert taken(graph(parameter("w", 2), op(kind, 0), op("sum", 1))).shape(1) == (2,)
        assert taken(graph(parameter("w"), op(kind, 0))).shape(1) == ()


PACKED: dict[str, Any] = {
    "constants": [1.0],
    "ops": [2, 1, 9],
    "arities": [2, 3, 1],
    "arguments": [0, 1, 2, 2, 0, 4],
    "exponents": [2.0],
    "results": [3, 5],
}
"""Three operations, at positions 3 to 5, on two elements and a constant."""


def packed(shape: tuple[int, ...] = (2,), **columns: Any) -> graph_pb2.Graph:
    return graph(parameter("w", *shape), op("scalars", 0, **{**PACKED, **columns}), op("sum", 1))


class TestExpansion:
    def test_a_packed_node_becomes_nodes(self) -> None:
        found = decode_graph(packed(), Limits())
        kinds = ["PARAMETER", "ELEMENT", "ELEMENT", "CONSTANT", "MUL", "ADD", "POWER", "STACK", "SUM"]
        assert [Opcode(code).name for code in found.opcodes] == kinds
        operands = [[], [0], [0], [], [1, 2], [3, 3, 1], [5], [4, 6], [7]]
        assert [found.operands_of(i) for i in range(9)] == operands
        assert (found.numbers[[1, 2, 3, 6]].tolist(), found.loss) == ([0, 1, 1, 2], 8)
        assert found.origins is not None
        assert found.origins.sent.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 2]
        assert found.origins.position.tolist() == [-1, 0, 1, 2, 3, 4, 5, -1, -1]
        assert found.origins.nodes.tolist() == [0, 7, 8]
        assert [found.label(i) for i in (0, 5, 7, 8)] == ["w", "scalars_1", "scalars_1", "sum_2"]
        assert taken(packed()).shape(7) == (2,)

    def test_scalar_operands_are_used_as_they_are_and_nothing_unused_is_made(self) -> None:
        columns: dict[str, Any] = {
            "constants": [7.0, 8.0],
            "ops": [1, 4],
            "arguments": [1002, 1001, 0],
            "results": [1001, 1004, 1001],
        }
        message = graph(
            parameter("nothing", 0),
            constant(2.0),
            parameter("v", 1000),
            op("scalars", 0, 2, 1, **columns),
            op("sum", 3),
        )
        message.nodes[3].scalars.arguments[2] = 1000
        found = decode_graph(message, Limits())
        codes = [Opcode(code).name for code in found.opcodes[3:]]
        assert codes == ["CONSTANT", "CONSTANT", "ADD", "SIGMOID", "STACK", "SUM"]
        assert [found.operands_of(i) for i in (5, 6, 7)] == [[4, 3], [1], [3, 6, 3]]
        assert found.numbers[[3, 4]].tolist() == [7, 8]

    @drawn(st.data())
    def test_packed_or_node_by_node_is_one_graph(self, data: st.DataObject) -> None:
        swarm = data.draw(swarms(4))
        columns = {name: column.tolist() for name, column in swarm.items()}
        result = data.draw(st.integers(0, len(columns["results"]) - 1))
        sources = [parameter("w", 3), given("x", per_example=True)]
        picked = constant(np.array(result, np.int64))
        together = graph(*sources, op("scalars", 0, 1, **columns), picked, op("take", 2, 3), op("tanh", 4))
        nodes, places = [*sources], {3: 1}

        def place(position: int) -> int:
            if position not in places and position < 3:
                nodes.extend([constant(np.array(position, np.int64)), op("take", 0, len(nodes))])
            elif position not in places:
                nodes.append(constant(columns["constants"][position - 4]))
            return places.setdefault(position, len(nodes) - 1)

        for k, (kind, arguments, attributes) in enumerate(operations_of(swarm), start=4 + len(columns["constants"])):
            nodes.append(op(kind, *map(place, arguments), **dict[str, Any](attributes)))
            places[k] = len(nodes) - 1
        loss = place(columns["results"][result])
        assert taken(graph(*nodes, op("tanh", loss))).graph_id == taken(together).graph_id

    @pytest.mark.parametrize("turns", [1, 3])
    def test_the_sdk_s_packed_graph_has_the_id_of_the_same_graph_node_by_node(self, turns: int) -> None:
        w, x, s = gw.parameter("w", (20,)), gw.input("x", (4, 5), per_example=True), gw.parameter("s")
        table = gw.constant(np.arange(6.0))
        rng = np.random.default_rng(0)
        pool = [w[3], w[-1], gw.reshape(gw.transpose(x), (20,))[7], x[2][1], s, table[4], gw.constant(2.0)]
        for turn in range(turns):
            for _ in range(150):
                a, b = (pool[i] for i in rng.integers(0, len(pool), 2))
                pool.append([a + b * 3.0, gw.maximum(a, b, 0.5), gw.tanh(a) + 0.5, a**2 / 2.0][rng.integers(4)])
            if turn < turns - 1:
                pool.append(gw.sum(w * pool[-1]) + gw.max(x * pool[-2]))
        loss = gw.add(*pool)
        assert len(gw.graph(loss).nodes) < 50
        assert taken(gw.graph(loss)).graph_id == taken(build_graph(loss, "zero", {}, packed=False)).graph_id
        assert taken(gw.graph(loss)).graph_id != taken(gw.graph(loss, ties="split")).graph_id


def finding(message: graph_pb2.Graph, limits: Limits | None = None) -> tuple[str, str]:
    """The text and the path of the only finding."""
    [only] = refused(message, limits).findings
    assert only.reason in (Reason.INVALID_GRAPH, Reason.LIMIT_EXCEEDED)
    return only.message, only.path


def _float32(value: float) -> graph_pb2.Node:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, values=[value])
    return graph_pb2.Node(constant=graph_pb2.Constant(value=tensor))


def _index(*indices: int) -> list[graph_pb2.Node]:
    return [constant(np.array(index)) for index in indices]


class TestRefusals:
    def test_names(self) -> None:
        message = graph(
            parameter("w"), given("w"), parameter(""), op("exp", 0, name="a\nb"), parameter("n" * 300), loss=0
        )
        found = [(finding.message, finding.path) for finding in refused(message).findings]
        assert found == [
            ('node "w" (nodes[1]) has the name of nodes[0]; names are unique', "nodes[1].name"),
            ("nodes[2] is a parameter without a name; requests supply it by its name", "nodes[2].name"),
            ('node "a\\nb" (nodes[3]) has a name with unprintable characters; use printable ones', "nodes[3].name"),
            (
                f'node "{"n" * 64}"... (nodes[4]) has a name of 300 characters; at most 256 are allowed',
                "nodes[4].name",
            ),
        ]

    @pytest.mark.parametrize(
        ("operand", "words"),
        [
            (1, "index 1, the node itself; operands come first, so give an index below 1"),
            (2, "index 2, a later node; operands come first, so give an index below 1"),
            (99, "index 99, past the end of 3 nodes; give an index below 1"),
            (2**32 - 1, "index 4294967295, past the end of 3 nodes; give an index below 1"),
        ],
    )
    @pytest.mark.parametrize("kind", ["add", "matmul"])
    def test_operands_are_earlier_nodes(self, kind: str, operand: int, words: str) -> None:
        message = graph(parameter("w"), op(kind, 0, operand), constant(1.0), loss=0)
        assert finding(message) == (f"node {kind}_1 (nodes[1]): operand 1 is {words}", f"nodes[1].{kind}.operands[1]")

    def test_findings_come_in_the_order_of_nodes_and_follow_from_nothing_wrong(self) -> None:
        message = graph(
            parameter("w", 2),
            op("exp", 7, name="first"),
            op("add", 1, 0),
            op("matmul", 0, 0, name="w"),
            op("log", 0, 0),
        )
        message.loss = 9
        paths = [found.path for found in refused(message).findings]
        assert paths == ["nodes[1].exp.operands[0]", "nodes[3].name", "nodes[4].log.operands", "loss"]

    def test_the_loss(self) -> None:
        assert finding(graph(parameter("w", 2), op("exp", 0)))[0] == (
            "the loss, node exp_1 (nodes[1]), has shape (2,) for one example; it must have shape (), so reduce it "
            "first (sum, reduce_max, reshape)"
        )
        assert "holds int64 indices" in finding(graph(constant(np.array(1))))[0]
        assert finding(graph_pb2.Graph(nodes=[parameter("w")], loss=2**31)) == (
            "the loss is index 2147483648, past the end of 1 nodes",
            "loss",
        )
        assert finding(graph_pb2.Graph()) == ("the graph has no nodes; give at least the loss", "nodes")

    @pytest.mark.parametrize(
        ("kind", "operands", "fields", "words", "field"),
        [
            *((kind, [], {}, f"0 operands; {kind} takes 1 or more", "operands") for kind in NARY),
            *((kind, [(2,), (3,)], {}, r"of shapes \(2,\) and \(3,\) do not broadcast", "operands") for kind in NARY),
            *((kind, [(2,), int], {}, f"of int64; {kind} takes a float tensor there", "operands[1]") for kind in NARY),
            *(
                (kind, [(), ()], {}, f"2 operands; {kind} takes exactly 1", "operands")
                for kind in (*UNARY, *REDUCING, "power", "reshape", "transpose")
            ),
            *((kind, [int], {}, "a float tensor there", "operands[0]") for kind in UNARY),
            ("power", [()], {}, "the exponent is not set", "exponent"),
            ("power", [()], {"exponent": np.nan}, "the exponent is nan; it must be finite", "exponent"),
            ("power", [(2,)], {"exponent": np.inf}, "the exponent is inf; it must be finite", "exponent"),
            *((kind, [(2, 3)], {"axes": [2]}, "axis 2 is out of range", "axes[0]") for kind in REDUCING),
            *((kind, [(2, 3)], {"axes": [0, -2]}, "axis -2 is given twice", "axes[1]") for kind in REDUCING),
            *(
                (kind, [(2, 0)], {"axes": [1]}, r"axis 1 of shape \(2, 0\) is empty", "axes")
                for kind in ("reduce_max", "logsumexp")
            ),
            ("matmul", [(), (3,)], {}, "the operand is a scalar; use mul", "operands[0]"),
            ("matmul", [(2, 3), (2, 3)], {}, "3 columns against 2 rows", "operands"),
            ("matmul", [(4, 2, 3), (5, 3, 2)], {}, "do not broadcast", "operands"),
            ("reshape", [(2, 3)], {"shape": [4]}, "has 6 elements, shape", "shape"),
            ("reshape", [(2, 3)], {"shape": [4, -1]}, "6 elements does not fit", "shape"),
            ("reshape", [(2, 3)], {"shape": [-1, -1]}, "-1 more than once", "shape[1]"),
            ("reshape", [(2, 3)], {"shape": [-2, 3]}, "size -2 is negative", "shape[0]"),
            ("reshape", [(0, 3)], {"shape": [0, 2**62]}, "on axis 1", "shape"),
            ("transpose", [(2, 3)], {"axes": [0]}, "1 axes are given", "axes"),
            ("take", [(2, 3), (2,)], {}, "of floats; take takes an int64 input or constant there", "operands[1]"),
            ("take", [(), int], {}, "scalar and has no rows", "operands[0]"),
            (
                "take",
                [(2, 3), np.array([0, 2])],
                {},
                r"index 2 at position \(1,\) is out of range for 2 rows",
                "operands[1]",
            ),
        ],
    )
    def test_misuses(self, kind: str, operands: list[Any], fields: dict[str, Any], words: str, field: str) -> None:
        nodes = [_operand(slot, operand) for slot, operand in enumerate(operands)]
        culprit = op(kind, *range(len(nodes)), name="it", **fields)
        message, path = finding(graph(*nodes, culprit, op("sum", len(nodes))))
        assert message.startswith(f'node "it" (nodes[{len(nodes)}], {kind})')
        assert re.search(words, message)
        assert path == f"nodes[{len(nodes)}].{kind}.{field}"

    @pytest.mark.parametrize(
        ("columns", "path", "words"),
        [
            ({"ops": [1, 0, 9]}, "ops[1]", "no op for operation 1; allowed are SCALAR_OP_ADD,"),
            ({"ops": [1, 2, 18]}, "ops[2]", "the unknown op 18 for operation 2"),
            ({"ops": [1, -7, 9]}, "ops[1]", "the unknown op -7 for operation 1"),
            ({"arities": [2, 3]}, "arities", "2 arities for 3 operations"),
            ({"arities": [2, 0, 3]}, "arities[1]", "operation 1 (position 4, add) has 0 arguments; it takes 1 or more"),
            (
                {"arities": [2, 2, 2]},
                "arities[2]",
                "operation 2 (position 5, power) has 2 arguments; it takes exactly 1",
            ),
            ({"arities": []}, "arguments", "there are 6 arguments; the operations take 5"),
            ({"arities": [2**32 - 1, 3, 1]}, "arguments", "the operations take 4294967299"),
            (
                {"arguments": [0, 3, 2, 2, 0, 4]},
                "arguments[1]",
                "position 3, the operation itself; arguments come first",
            ),
            (
                {"arguments": [0, 1, 2, 5, 0, 4]},
                "arguments[3]",
                "position 5, a later one; arguments come first, so give",
            ),
            ({"arguments": [0, 1, 2, 2**32 - 1, 0, 4]}, "arguments[3]", "position 4294967295, a later one"),
            ({"exponents": []}, "exponents", "there are 0 exponents for 1 operations of code 9 (power)"),
            (
                {"exponents": [np.inf]},
                "exponents[0]",
                "operation 2 (position 5, power) has the exponent inf; it must be",
            ),
            ({"results": []}, "results", "there are no results; name at least one position"),
            (
                {"results": [0, 6]},
                "results[1]",
                "result 1 is position 6, past the end of 6 positions; give one below 6",
            ),
        ],
    )
    def test_wrong_columns(self, columns: dict[str, Any], path: str, words: str) -> None:
        message, where = finding(packed(**columns))
        assert message.startswith("node (nodes[1], scalars) " if "ops" in columns else "node scalars_1 (nodes[1])")
        assert words in message
        assert where == f"nodes[1].scalars.{path}"

    def test_packed_nodes_do_not_hide_what_else_is_wrong(self) -> None:
        message = graph(
            parameter("w", 2), op("exp", 5), op("scalars", 1, **PACKED), op("scalars", 0, 9, **PACKED), loss=0
        )
        paths = [found.path for found in refused(message).findings]
        assert paths == ["nodes[1].exp.operands[0]", "nodes[3].scalars.operands[1]", "loss"]

    def test_every_unreadable_node_is_found_at_once(self) -> None:
        nodes = [
            graph_pb2.Node(name="a"),
            graph_pb2.Node(name="b", constant=graph_pb2.Constant(value=tensor_pb2.Tensor(shape=[2], raw=b"123"))),
            parameter("c", *[1] * 40),
            op("sum", 0, axes=[0] * 40),
            graph_pb2.Node(constant=graph_pb2.Constant()),
            given("i", dtype=tensor_pb2.DTYPE_FLOAT32),
            graph_pb2.Node.FromString(b"\xf8\x3f\x00"),
        ]
        found = [(one.message, one.path) for one in refused(graph(*nodes, ties=7)).findings]
        assert [path for _, path in found] == [
            "ties",
            "nodes[0]",
            "nodes[1].constant.value.raw",
            "nodes[2].parameter.shape",
            "nodes[3].sum.axes",
            "nodes[4].constant.value",
            "nodes[5].input.dtype",
            "nodes[6]",
        ]
        assert found[1][0].startswith('node "a" (nodes[0]) has no kind set; server ')
        assert found[4][0] == "node (nodes[3], sum) has 40 axes; at most 32 are allowed"
        assert "does not know (field 1023)" in found[7][0]

    def test_limits(self) -> None:
        exps = graph(parameter("w"), *[op("exp", 0)] * 4, op("add", 1, 2, 3, 4, 0))
        assert len(taken(exps, Limits(max_nodes=6, max_edges=9))) == 6
        assert finding(exps, Limits(max_nodes=5)) == (
            "the graph has 6 nodes; this server takes at most 5 (max_nodes)",
            "nodes",
        )
        assert "has 9 operands" in finding(exps, Limits(max_edges=8))[0]
        assert len(taken(packed(), Limits(max_nodes=6, max_edges=8))) == 9
        assert "at least 6 nodes and packed operations" in finding(packed(), Limits(max_nodes=5))[0]
        assert "has 8 operands" in finding(packed(), Limits(max_edges=7))[0]
        assert finding(packed(results=[0] * 10), Limits(max_edges=9))[1] == "nodes[1].scalars.results"
        wide = graph(parameter("w", 1000, 1), op("transpose", 0), op("mul", 0, 1), op("sum", 2))
        message, path = finding(wide, Limits(max_tensor_bytes=8000))
        assert message.startswith(
            "node mul_2 (nodes[2]) has shape (1000, 1000), which takes 8000000 bytes; this server"
        )
        assert path == "nodes[2]"

    def test_of_very_many_findings_the_first_are_told(self) -> None:
        found = refused(graph(*[op("exp", 10**6)] * 10_000))
        assert (len(found.findings), found.total) == (20, 10_000)

    def test_reading_and_checking_ask_whether_anybody_waits(self) -> None:
        message = graph(*[parameter(f"p{i}", 2) for i in range(2000)], op("sum", 0))
        with pytest.raises(InterruptedError):
            decode_graph(message, Limits(), given_up(3))
        found = decode_graph(message, Limits())
        with pytest.raises(InterruptedError):
            check_graph(found, Limits(), given_up(3))
        with pytest.raises(InterruptedError):
            decode_graph(packed(), Limits(), given_up(5))


def given_up(after: int) -> Callable[[], None]:
    """A checkpoint that is passed so many times."""
    passes = iter(range(after))

    def checkpoint() -> None:
        if next(passes, None) is None:
            raise InterruptedError

    return checkpoint


def _operand(slot: int, operand: Any) -> graph_pb2.Node:
    """A float parameter of a shape, an int64 input, or a constant."""
    if operand is int:
        return given(f"i{slot}", dtype=I64)
    return constant(operand) if isinstance(operand, np.ndarray) else parameter(f"p{slot}", *operand)


def base(*before: graph_pb2.Node, exponent: float = 2.0, **fields: Any) -> graph_pb2.Graph:
    """The sum of the squares of a source of shape (2, 3), or of what stands before."""
    nodes = before or (parameter("x", 2, 3),)
    last = len(nodes) - 1
    return graph(*nodes, op("power", last, exponent=exponent), op("sum", last + 1, **fields))


def identity(message: graph_pb2.Graph) -> str:
    return taken(message).graph_id


X, ROWS = parameter("x", 2, 3), constant(np.array([1, 0]))


class TestIdentity:
    def test_it_is_stable(self) -> None:
        assert identity(base()) == "606a3c38ad9508daf0a895f6d1f690e73a93cbcb536e232533aa2c73b760b3fe"
        assert identity(packed()) == "c51670e5480187f27250baffad8977e53260f9f22126be7ab8595a8dbe728905"

    @pytest.mark.parametrize(
        "messages",
        [
            [base(), base(axes=[0, 1]), base(axes=[-1, 0]), base(exponent=2.0, axes=[1, 0])],
            [base(exponent=0.0), base(exponent=-0.0)],
            # In another order; with an equal constant twice; of another float dtype.
            [
                graph(X, constant(2.0), op("mul", 0, 1), op("add", 2, 1), op("sum", 3)),
                graph(constant(2.0), X, op("mul", 1, 0), op("add", 2, 0), op("sum", 3)),
                graph(X, constant(2.0), constant(2.0), op("mul", 0, 2), op("add", 3, 1), op("sum", 4)),
                graph(X, _float32(2.0), op("mul", 0, 1), op("add", 2, 1), op("sum", 3)),
            ],
            # Detours to an element.
            [
                graph(X, *_index(1, 2), op("take", 0, 1), op("take", 3, 2), op("exp", 4)),
                graph(X, *_index(-1, -1), op("take", 0, 1), op("take", 3, 2), op("exp", 4)),
                graph(X, *_index(5), op("reshape", 0, shape=[6]), op("take", 2, 1), op("exp", 3)),
                graph(X, *_index(2, 1), op("transpose", 0), op("take", 3, 1), op("take", 4, 2), op("exp", 5)),
                graph(X, ROWS, *_index(0, 2), op("take", 0, 1), op("take", 4, 2), op("take", 5, 3), op("exp", 6)),
                graph(X, op("scalars", 0, ops=[5], arguments=[5], results=[6]), op("reshape", 1)),
                graph(X, op("scalars", 0, results=[4, 5]), *_index(1), op("take", 1, 2), op("exp", 3)),
            ],
            # An element of a constant.
            [
                graph(
                    parameter("w"),
                    constant([[3.0, 4.0]]),
                    op("reshape", 1, shape=[2]),
                    *_index(1),
                    op("take", 2, 3),
                    op("mul", 0, 4),
                ),
                graph(parameter("w"), constant(4.0), op("mul", 0, 1)),
                graph(
                    parameter("w"),
                    op("scalars", 0, constants=[5.0, 4.0], ops=[2], arguments=[0, 2], results=[3]),
                    op("reshape", 1),
                ),
            ],
            # An element twice, and once.
            [
                graph(parameter("w", 2), *_index(1), op("take", 0, 1), op("mul", 2, 2)),
                graph(parameter("w", 2), *_index(1), op("take", 0, 1), op("take", 0, 1), op("mul", 2, 3)),
            ],
        ],
        ids=range(6),
    )
    def test_what_means_the_same_has_the_same_id(self, messages: list[graph_pb2.Graph]) -> None:
        assert len({identity(message) for message in messages}) == 1

    def test_everything_else_has_an_id_of_its_own(self) -> None:
        x = given("x", 2, 3)
        w, one, rows = parameter("w"), constant(1.0), constant(np.array([0, 1]))
        messages = [
            base(),
            base(parameter("y", 2, 3)),
            base(parameter("x", 3, 2)),
            base(exponent=3.0),
            base(x),
            base(given("x", 2, 3, per_example=True)),
            base(constant([[1, 2, 3], [4, 5, 6]])),
            base(constant([[1, 2, 3], [4, 5, 7]])),
            base(constant(1.0), X),
            base(w, X),
            base(parameter("v"), X),
            graph(X, op("power", 0, exponent=2.0, name="square"), op("sum", 1)),
            graph(X, constant(1.0), op("power", 0, exponent=2.0, name="square"), op("sum", 2)),
            graph(X, op("power", 0, exponent=2.0), op("reduce_max", 1)),
            graph(X, op("power", 0, exponent=2.0), op("logsumexp", 1)),
            graph(X, op("power", 0, exponent=2.0), op("sum", 1), ties=graph_pb2.TIE_RULE_SPLIT),
            graph(X, op("power", 0, exponent=2.0), op("sum", 1), op("exp", 1), loss=2),
            graph(X, op("power", 0, exponent=2.0), op("sum", 1), op("log", 1), loss=2),
            # Which is the tensor, and which the scalar; where rows are, and what they are.
            graph(constant([0.0]), constant(0.0), op("mul", 0, 1), op("sum", 2)),
            graph(constant(0.0), constant([0.0]), op("mul", 0, 1), op("sum", 2)),
            graph(constant(-0.0), constant([0.0]), op("mul", 0, 1), op("sum", 2)),
            graph(x, rows, op("take", 0, 1), op("sum", 2)),
            graph(x, ROWS, op("take", 0, 1), op("sum", 2)),
            graph(x, given("i", 2, dtype=I64), op("take", 0, 1), op("sum", 2)),
            # Order and number of operands.
            graph(w, one, op("add", 0, 1)),
            graph(w, one, op("add", 1, 0)),
            graph(w, one, op("add", 0, 0, 1)),
            graph(w, one, op("add", 0), op("add", 2, 1)),
            # An operation whose result nobody takes.
            graph(w, op("scalars", 0, ops=[4, 5], arguments=[0, 0], results=[1, 2]), *_index(0), op("take", 1, 2)),
            graph(w, op("scalars", 0, ops=[4, 6], arguments=[0, 0], results=[1, 2]), *_index(0), op("take", 1, 2)),
            graph(w, op("scalars", 0, ops=[4], arguments=[0], results=[1]), *_index(0), op("take", 1, 2)),
        ]
        assert len({identity(message) for message in messages}) == len(messages)

    def test_inputs_of_rows_and_of_floats_differ(self) -> None:
        assert identity(graph(given("x", 2, dtype=I64), constant(1.0))) != identity(graph(given("x", 2), constant(1.0)))

    def test_a_long_chain_takes_no_longer_for_each_element_at_its_end(self) -> None:
        nodes = [parameter("w", 2), constant(np.array(1))]
        nodes += [op("reshape", max(0, i + 1), shape=[2]) if i else op("reshape", 0, shape=[2]) for i in range(20_000)]
        nodes += [op("take", 2 + i, 1) for i in range(20_000)]
        assert len(taken(graph(*nodes))) == 40_002


class TestActive:
    """Nodes that gradients of the loss go through."""

    @pytest.mark.parametrize(("op_name", "others"), [("less", [1]), ("equal", [1]), ("select", [1, 1])])
    def test_none_go_through_a_comparison_or_what_it_is_made_of(self, op_name: str, others: list[int]) -> None:
        # A parameter, its exponential, what compares that, and their product.
        message = graph(parameter("w"), constant(1.0), op("exp", 0), op(op_name, 2, *others), op("mul", 3, 0))
        checked = taken(message)
        assert np.flatnonzero(checked.active([0])).tolist() == [0, 4]

    def test_none_go_through_what_stops_them(self) -> None:
        message = graph(parameter("w"), op("exp", 0), op("stop_gradient", 1), op("sin", 2), op("mul", 3, 0))
        assert np.flatnonzero(taken(message).active([0])).tolist() == [0, 4]

    def test_a_choice_passes_on_to_what_is_chosen(self) -> None:
        message = graph(parameter("w"), op("exp", 0), op("sin", 0), op("select", 0, 1, 2))
        assert np.flatnonzero(taken(message).active([0])).tolist() == [0, 1, 2, 3]
