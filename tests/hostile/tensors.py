"""Tensors and questions that do not fit their graph, or would cost too much."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any, cast

import grpc

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from tests.hostile.messages import (
    EXHAUSTED,
    F32,
    F64,
    I64,
    INVALID,
    PRECONDITION,
    Bad,
    Node,
    Tensor,
    compute,
    graph,
    numbers,
    op,
    parameter,
    per_example,
    scalar,
    with_w,
)


def check(**fields: Any) -> Any:
    return pb.CheckGradientsRequest(graph=graph(parameter("w")), tensors={"w": scalar(1)}, **fields)


def zeros(*shape: int) -> Any:
    return Tensor(shape=shape, raw=bytes(8 * prod(shape)))


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
        ("max_memory_bytes", str(4 << 30), "largest tensor", "(1000, 1000)")),
    Bad("empty-examples", "ComputeGradients", lambda: compute(
        graph(per_example("x", 0), op("sum", 0)), {"x": Tensor(shape=[2**40, 0])}), EXHAUSTED, "LIMIT_EXCEEDED",
        ('"x"', str(2**40), str(2**24), "max_examples"), 'tensors["x"]'),
    Bad("gradients-of-empty-examples", "ComputeGradients", lambda: compute(
        graph(per_example("x", 0), op("sum", 0), parameter("w", 40), op("sum", 2, name="a"), op("add", 1, 3, name="b")),
        {"x": Tensor(shape=[2**24, 0]), "w": numbers(*[1] * 40)}, reduction=pb.REDUCTION_NONE), EXHAUSTED,
        "LIMIT_EXCEEDED", (str(2**24), "max_memory_bytes", str(4 << 30))),
    Bad("per-example-gradients", "ComputeGradients", per_example_gradients, EXHAUSTED, "LIMIT_EXCEEDED",
        ("max_memory_bytes", str(4 << 30), "65536 examples", "mean or a sum", "fewer examples")),
    *(
        Bad(f"non-finite-{value}", "ComputeGradients", with_w(numbers(1, value), reject_non_finite=True),
            PRECONDITION, "NON_FINITE", ('"w"', str(value), "(1,)"), "graph.nodes[0]")
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
    *(
        Bad(f"check-{field}-{value}", "CheckGradients", partial(check, **{field: value}), INVALID, "INVALID_REQUEST",
            (field, *words), field)
        for field, value, words in [
            ("step", -1.0, ("-1",)), ("step", 1e-30, ("1e-30", '"w"', "larger")), ("step", float("nan"), ("nan",)),
            ("step", float("inf"), ("inf",)), ("tolerance", 0.0, ("0",)), ("tolerance", float("nan"), ("nan",)),
            ("max_probes", 0, ("0",)),
        ]
    ),
    Bad("gradient-in-a-constant", "ComputeGradients", lambda: compute(
        graph(Node(name="c", constant=graph_pb2.Constant(value=scalar(2)))), {}, wrt=pb.SourceNames(names=["c"])),
        INVALID, "INVALID_REQUEST", ('"c"',), "wrt.names[0]"),
    *(
        Bad(f"twice-in-{field}", "ComputeGradients", with_w(numbers(1, 2), **{field: value}), INVALID,
            "INVALID_REQUEST", ("twice", "once"), path)
        for field, value, path in [
            ("outputs", [0, 0], "outputs[1]"), ("wrt", pb.SourceNames(names=["w", "w"]), "wrt.names[1]"),
        ]
    ),
    *(
        Bad(f"too-many-in-{field}", "ComputeGradients", with_w(numbers(1, 2), **{field: value}), EXHAUSTED,
            "LIMIT_EXCEEDED", ("1000001", "1000000", "max_nodes"), path)
        for field, value, path in [
            ("outputs", [0] * 1_000_001, "outputs"), ("wrt", pb.SourceNames(names=["w"] * 1_000_001), "wrt.names"),
        ]
    ),
    Bad("many-surplus", "ComputeGradients", lambda: compute(
        graph(parameter("w")), {"w": scalar(1)} | dict.fromkeys(map(str, range(100_000)), scalar(2))), INVALID,
        "INVALID_TENSOR", ("surplus", "99999 more")),
    Bad("overflow", "ComputeGradients", lambda: compute(
        graph(parameter("w"), op("mul", 0, 0), op("add", 1, 1, name="")), {"w": scalar(1e200)},
        reject_non_finite=True), PRECONDITION, "NON_FINITE", ('"culprit"', "inf", "1e+200"), "graph.nodes[1]"),
    Bad("zero-times-infinity", "ComputeGradients", lambda: compute(
        graph(parameter("w"), op("log", 0), op("mul", 0, 1, name="")), {"w": scalar(0)}, reject_non_finite=True),
        PRECONDITION, "NON_FINITE", ('"culprit"', "-inf"), "graph.nodes[1]"),
    Bad("infinite-gradient", "ComputeGradients", lambda: compute(
        graph(parameter("w"), op("power", 0, exponent=0.5)), {"w": scalar(0)}, reject_non_finite=True),
        PRECONDITION, "NON_FINITE", ('"culprit"', "inf", "gradient"), "graph.nodes[1]"),
    Bad("trace-of-much", "TraceGraph", lambda: pb.TraceGraphRequest(
        graph=graph(parameter("w"), Node(constant=graph_pb2.Constant(value=zeros(1 << 20))),
            *[op("mul", 0, 1, name="")] * 20, op("sum", 21, name="")), tensors={"w": scalar(1)}), EXHAUSTED,
        "LIMIT_EXCEEDED", ("134217728", "smaller graph")),
]  # fmt: skip
