"""Graphs that break a rule or a limit."""

from __future__ import annotations

from typing import Any

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from tests.hostile.messages import EXHAUSTED, I64, INVALID, Bad, Node, graph, numbers, op, parameter, register, with_w


def many_bad_nodes() -> Any:
    return pb.RegisterGraphRequest(graph=graph(*[op("exp", 10**6, name="")] * 100_000))


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
    Bad("add-of-none", "RegisterGraph", register(parameter("w"), op("add")), INVALID, "INVALID_GRAPH",
        ('"culprit"', "add", "0 operands", "1 or more"), "graph.nodes[1].add.operands"),
    Bad("matmul-of-one", "RegisterGraph", register(parameter("w"), op("matmul", 0)), INVALID, "INVALID_GRAPH",
        ('"culprit"', "matmul", "1 operands", "exactly 2"), "graph.nodes[1].matmul.operands"),
    Bad("sigmoid-of-three", "RegisterGraph", register(parameter("w"), op("sigmoid", 0, 0, 0)), INVALID,
        "INVALID_GRAPH", ('"culprit"', "sigmoid", "3 operands", "exactly 1"), "graph.nodes[1].sigmoid.operands"),
    Bad("max-of-none", "RegisterGraph", register(parameter("w"), op("max")), INVALID, "INVALID_GRAPH",
        ('"culprit"', "max", "0 operands", "1 or more"), "graph.nodes[1].max.operands"),
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
