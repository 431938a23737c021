"""One id for graphs that mean the same, and what nodes are called by number in them."""

from __future__ import annotations

import pytest

import gradwire as gw
from gradwire._graphs.graph import build_graph
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire_server.errors import Reason, Refusal
from gradwire_server.service.requests.logic import GradientLogic

TENSORS = {f"x{i}": tensor_pb2.Tensor(values=[0.1 * i]) for i in range(4)}


def both() -> tuple[graph_pb2.Graph, graph_pb2.Graph]:
    """A graph as the SDK packs it, and node by node."""
    sources = [gw.parameter(f"x{i}") for i in range(4)]
    value: gw.Expression = sources[0]
    for i in range(300):
        value = gw.sigmoid(value * sources[i % 4] + sources[(i + 1) % 4])
    return gw.graph(value), build_graph(value, "zero", {}, packed=False)


def compute(logic: GradientLogic, **program: object) -> pb.ComputeGradientsResponse:
    request = pb.ComputeGradientsRequest(tensors=TENSORS, **program)  # type: ignore[arg-type]  # a graph or an id
    return logic.prepare_compute(request).run(lambda: None)


def test_a_packed_graph_and_one_node_by_node_have_one_id_and_give_the_same_bits() -> None:
    logic = GradientLogic()
    packed, plain = both()
    assert 50 * len(packed.nodes) < len(plain.nodes)
    ids = {logic.register_graph(pb.RegisterGraphRequest(graph=graph)).graph_id for graph in (packed, plain)}
    assert len(ids) == 1
    first, second = (compute(logic, graph=graph) for graph in (packed, plain))
    assert first.loss == second.loss
    assert dict(first.gradients) == dict(second.gradients)


def test_a_number_that_means_two_nodes_is_asked_for_with_the_graph() -> None:
    logic = GradientLogic()
    packed, plain = both()
    graph_id = logic.register_graph(pb.RegisterGraphRequest(graph=packed)).graph_id
    before = compute(logic, graph_id=graph_id, outputs=[4]).outputs[4]
    logic.register_graph(pb.RegisterGraphRequest(graph=plain))
    compute(logic, graph_id=graph_id)
    with pytest.raises(Refusal) as raised:
        compute(logic, graph_id=graph_id, outputs=[4])
    assert raised.value.reason is Reason.GRAPH_NOT_FOUND
    # The SDK answers that by sending the graph.
    assert compute(logic, graph=packed, outputs=[4]).outputs[4] == before
