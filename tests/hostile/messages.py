"""Requests, good and bad, in few words."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from tests.integration.raw import SERVICE

INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
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
    factor: int = 40
    """Memory that it may take, beyond an allowance, in terms of its size."""


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
