"""One id for graphs that mean the same, and what nodes are called by number in them."""

from __future__ import annotations

import numpy as np
import pytest

import gradwire as gw
from gradwire._graphs.graph import build_graph
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire_server.errors import Reason, Refusal
from gradwire_server.service.requests.logic import GradientLogic
from tests.unit.engine import messages as m

TENSORS = {f"x{i}": tensor_pb2.Tensor(values=[0.1 * i]) for i in range(4)}


ID = "f3cb5263931ca312ec35ab68c12d3260dfedccbb06aa70c3c27d7ae9fd8abe7a"
"""That of the graph below, ever since there have been ids of this form."""


def test_the_id_of_a_graph_stays() -> None:
    nodes = [
        m.parameter("w", 2, 3),
        m.given("x", 3, per_example=True),
        m.given("i", dtype=m.I64),
        m.constant([1.0, 2.0]),
        m.constant(np.array([0, 1])),
        m.op("matmul", 0, 1, name="scores"),
        m.op("add", 5, 3),
        m.op("mul", 6, 6),
        m.op("max", 7, 5),
        m.op("sigmoid", 8),
        m.op("exp", 9),
        m.op("log", 10),
        m.op("tanh", 11),
        m.op("softplus", 12),
        m.op("power", 13, exponent=2.5),
        m.op("take", 14, 2),
        m.op("take", 14, 4),
        m.op("reshape", 0, shape=[3, -1]),
        m.op("transpose", 17),
        m.op("reduce_max", 18, axes=[1], keepdims=True),
        m.op("logsumexp", 19),
        m.op("sum", 16),
        m.op("scalars", 3, constants=[1.5], ops=[1, 9], arguments=[0, 2, 3], exponents=[2.0], results=[4, 3]),
        m.op("sum", 22),
        m.op("add", 15, 20, 21, 23),
    ]
    assert m.taken(m.graph(*nodes, ties=graph_pb2.TIE_RULE_SPLIT)).graph_id == ID
    nodes[15].take.axis = -1
    assert m.taken(m.graph(*nodes, ties=graph_pb2.TIE_RULE_SPLIT)).graph_id == ID
    nodes[14].power.exponent = 2
    assert m.taken(m.graph(*nodes, ties=graph_pb2.TIE_RULE_SPLIT)).graph_id != ID


def looked_up(*wide: graph_pb2.Node) -> str:
    """The id of a graph whose loss is an element of its last node."""
    zeros = [
        m.op("reshape", len(wide), shape=[-1]),
        m.constant(np.array(1)),
        m.op("take", len(wide) + 1, len(wide) + 2),
    ]
    return m.taken(m.graph(m.parameter("w", 3, 4), *wide, *zeros)).graph_id


def test_an_element_has_one_id_however_it_is_looked_up() -> None:
    sliced = m.op("slice", 0, starts=[2, 3], sizes=[2, 2], steps=[-2, -1])
    there = m.op("slice", 0, starts=[-1, 1], sizes=[1, 2])
    by_index = m.op("take", 0, 1, axis=1)
    ids = {looked_up(sliced), looked_up(there), looked_up(m.constant(np.array([[3, 2]])), by_index)}
    assert len(ids) == 2  # the last but one is another element


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
