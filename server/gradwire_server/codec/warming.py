"""Kernels of the codec, compiled before they are needed."""

from __future__ import annotations

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.codec.counting import preparation
from gradwire_server.codec.graphs import decode_graph
from gradwire_server.limits import Limits


def warm() -> None:
    """Load them, or compile those that are not cached, by reading a small graph."""
    parameter, packed, loss = (pb.Node() for _ in range(3))
    parameter.name = "w"
    parameter.parameter.SetInParent()
    packed.scalars.operands.append(0)
    packed.scalars.ops.append(pb.SCALAR_OP_EXP)
    packed.scalars.arguments.append(0)
    packed.scalars.results.append(1)
    loss.sum.operands.append(1)
    graph = pb.Graph(nodes=[parameter, packed, loss], loss=2)
    preparation(graph.SerializeToString())
    decode_graph(graph, Limits())
