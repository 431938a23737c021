"""Graphs of the contract, node by node, and what the engine says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire_server.codec.graphs import decode_graph
from gradwire_server.engine.graph.checking import Checked, check_graph
from gradwire_server.errors import Refusal
from gradwire_server.limits import Limits

I64 = tensor_pb2.DTYPE_INT64
Node = graph_pb2.Node


def parameter(name: str, *shape: int) -> Node:
    return Node(name=name, parameter=graph_pb2.Parameter(shape=shape))


def given(name: str, *shape: int, **fields: Any) -> Node:
    return Node(name=name, input=graph_pb2.Input(shape=shape, **fields))


def constant(value: Any, name: str = "") -> Node:
    """A constant: int64 if the value is an array of that dtype, else float64."""
    array = np.asarray(value)
    dtype = I64 if isinstance(value, np.ndarray) and array.dtype == np.int64 else tensor_pb2.DTYPE_FLOAT64
    raw = array.astype("<i8" if dtype == I64 else "<f8").tobytes()
    tensor = tensor_pb2.Tensor(dtype=dtype, shape=array.shape, raw=raw)
    return Node(name=name, constant=graph_pb2.Constant(value=tensor))


def op(kind: str, *operands: int, name: str = "", **fields: Any) -> Node:
    node = Node(name=name)
    box: Any = getattr(node, kind)
    box.SetInParent()
    box.operands.extend(operands)
    for field, value in fields.items():
        if isinstance(value, float | int):
            setattr(box, field, value)
        else:
            getattr(box, field).extend(value)
    return node


def graph(*nodes: Node, loss: int = -1, **fields: Any) -> graph_pb2.Graph:
    return graph_pb2.Graph(nodes=nodes, loss=loss % len(nodes), **fields)


def taken(message: graph_pb2.Graph, limits: Limits | None = None) -> Checked:
    limits = limits or Limits()
    return check_graph(decode_graph(message, limits), limits)


def refused(message: graph_pb2.Graph, limits: Limits | None = None) -> Refusal:
    with pytest.raises(Refusal) as raised:
        taken(message, limits)
    return raised.value
