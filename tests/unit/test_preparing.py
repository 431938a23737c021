"""What it takes to prepare a graph is known before."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from gradwire.v1 import graph_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server import codec
from gradwire_server.engine import Limits, compile_graph

COUNT = 5000


def begun(*shape: int) -> pb.Graph:
    """A graph of one parameter."""
    graph = pb.Graph()
    node = graph.nodes.add(name="w")
    node.parameter.SetInParent()
    node.parameter.shape.extend(shape)
    return graph


def ended(graph: pb.Graph) -> pb.Graph:
    """With the sum of the last node as the loss."""
    graph.loss = len(graph.nodes)
    graph.nodes.add().sum.operands.append(graph.loss - 1)
    return graph


def transposes() -> pb.Graph:
    graph = begun(2, 2)
    for index in range(COUNT):
        graph.nodes.add(name=f"a name of node {index} " * 10).transpose.operands.append(index)
    return ended(graph)


def reshapes() -> pb.Graph:
    graph = begun(3, 4)
    for index in range(COUNT):
        node = graph.nodes.add().reshape
        node.operands.append(index)
        node.shape.extend([12] if index % 2 else [2, 3, 2])
    return ended(graph)


def products(*shape: int) -> pb.Graph:
    graph = begun(*shape)
    for index in range(COUNT):
        graph.nodes.add().mul.operands.extend([index, index])
    return ended(graph)


def sums_of_many(*shape: int) -> pb.Graph:
    graph = begun(*shape)
    for index in range(COUNT // 100):
        graph.nodes.add().add.operands.extend([index] * 300)
    return ended(graph)


def sums_of_three() -> pb.Graph:
    graph = begun(2)
    for index in range(COUNT):
        graph.nodes.add().add.operands.extend([index, index // 2, 0])
    return ended(graph)


def sources() -> pb.Graph:
    graph = pb.Graph()
    for index in range(COUNT):
        graph.nodes.add(name=f"source {index}").parameter.SetInParent()
    graph.nodes.add().add.operands.extend(range(COUNT))
    return ended(graph)


def constants(*shape: int) -> pb.Graph:
    graph = pb.Graph()
    for index in range(COUNT):
        tensor = graph.nodes.add().constant.value
        tensor.shape.extend(shape)
        tensor.dtype = tensor_pb2.DTYPE_FLOAT64
        tensor.raw = np.full(shape, index, np.float64).tobytes()
    graph.nodes.add().add.operands.extend(range(COUNT))
    return ended(graph)


def typed_constants() -> pb.Graph:
    graph = pb.Graph()
    tensor = graph.nodes.add().constant.value
    tensor.shape.append(100 * COUNT)
    tensor.dtype = tensor_pb2.DTYPE_FLOAT64
    tensor.values.extend(range(100 * COUNT))
    return ended(graph)


def packed() -> pb.Graph:
    graph = begun()
    box, count = graph.nodes.add().scalars, 20 * COUNT
    box.operands.append(0)
    box.constants.extend(range(count))
    box.ops.extend([pb.SCALAR_OP_MUL, pb.SCALAR_OP_POWER] * (count // 2))
    box.arities.extend([2, 1] * (count // 2))
    for index in range(0, count, 2):
        box.arguments.extend([index, index + 1, index])
    box.exponents.extend([2.0] * (count // 2))
    box.results.extend(range(count + 1, 2 * count + 1))
    return ended(graph)


def packed_of_many() -> pb.Graph:
    graph = begun()
    box = graph.nodes.add().scalars
    box.operands.append(0)
    box.ops.extend([pb.SCALAR_OP_ADD] * COUNT)
    box.arities.extend([50] * COUNT)
    box.arguments.extend([0] * 50 * COUNT)
    box.results.extend(range(1, COUNT + 1))
    return ended(graph)


GRAPHS: dict[str, Callable[[], pb.Graph]] = {
    "transposes with names": transposes,
    "reshapes": reshapes,
    "products of scalars": products,
    "products of tensors": lambda: products(2, 2),
    "sums of many scalars": sums_of_many,
    "sums of many tensors": lambda: sums_of_many(2),
    "sums of three tensors": sums_of_three,
    "sources": sources,
    "constants": constants,
    "large constants": lambda: constants(100),
    "a constant of numbers": typed_constants,
    "packed operations": packed,
    "packed operations of many arguments": packed_of_many,
}


@pytest.mark.parametrize("write", GRAPHS.values(), ids=GRAPHS)
def test_the_estimate_of_memory_holds_for_what_is_prepared(write: Callable[[], pb.Graph]) -> None:
    message, limits = write(), Limits()
    estimate = codec.preparation(message.SerializeToString()).memory
    # What is loaded or compiled once is not the graph's.
    compile_graph(codec.decode_graph(message, limits), limits)
    tracemalloc.start()
    compile_graph(codec.decode_graph(message, limits), limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= estimate
