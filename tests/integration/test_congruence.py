"""The engine in the process answers as a server does: the same bits, and the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import graph_pb2
from tests.integration.server_process import ServerProcess

SHAPES = [(), (3,), (2, 3), (3, 1)]
UNARY: list[Callable[[Any], gw.Expression]] = [
    gw.exp,
    gw.log,
    gw.tanh,
    gw.sigmoid,
    gw.softplus,
    gw.abs,
    gw.sqrt,
    gw.negative,
    gw.logsumexp,
    lambda x: gw.power(x, -1.5),
    lambda x: gw.sum(x, keepdims=True),
    gw.max,
    lambda x: gw.softmax(x) if x.shape else x,
    lambda x: gw.reshape(x, x.size),
    lambda x: x.T,
]
BINARY: list[Callable[[Any, Any], gw.Expression]] = [gw.add, gw.mul, gw.maximum, gw.subtract, gw.divide]


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[gw.Client, gw.Client]]:
    with ServerProcess() as server, gw.connect(server.address) as remote, gw.connect("local") as local:
        yield remote, local


class Request:
    """A loss of random operations, with arrays and options."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = self.pick(["float32", "float64"])
        self.examples = int(self.pick([1, 2, 7, 300]))
        self.arrays: dict[str, Any] = {}
        self.nodes: list[gw.Expression] = []
        for number in range(4):
            self.add_source(f"s{number}")
        for _ in range(int(self.random.integers(3, 25))):
            self.add_operation()
        total = gw.add(*[gw.sum(node) for node in (*self.nodes[:4], *self.nodes[-3:])])
        others = [node for node in self.nodes if node.kind not in ("parameter", "input")]
        names = list(self.arrays)
        self.loss = total
        self.options: dict[str, Any] = {
            "reduction": self.pick(["mean", "sum", "none"]),
            "ties": self.pick(["zero", "split"]),
            "outputs": {"first": others[0], "last": others[-1]} if others[0] is not others[-1] else None,
            "wrt": self.pick([None, names, names[:1], []]),
        }

    def pick(self, choices: list[Any]) -> Any:
        return choices[self.random.integers(len(choices))]

    def add_source(self, name: str) -> None:
        shape = self.pick(SHAPES)
        of_examples = bool(self.random.random() < 0.4)
        source = gw.input(name, shape, per_example=True) if of_examples else gw.parameter(name, shape)
        whole = (self.examples, *shape) if of_examples else shape
        # Small whole numbers make ties, zeros and infinities.
        values = self.random.integers(-2, 3, whole) if self.random.random() < 0.5 else self.random.normal(size=whole)
        self.arrays[name] = np.asarray(values, self.dtype)
        self.nodes.append(source)

    def add_operation(self) -> None:
        a, b = self.pick(self.nodes), self.pick(self.nodes)
        try:
            self.nodes.append(self.pick(UNARY)(a) if self.random.random() < 0.5 else self.pick(BINARY)(a, b))
        except gw.InvalidGraphError:
            # Shapes that do not broadcast.
            self.nodes.append(gw.mul(a, 2))


def bits(result: gw.Result) -> dict[str, Any]:
    """All that a result holds, times and ids aside."""
    arrays = {"loss": np.asarray(result.loss), **result.gradients, **{f"of {k}": v for k, v in result.outputs.items()}}
    found: dict[str, Any] = {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}
    return {**found, "report": repr(result.non_finite), "examples": result.examples, "blocks": result.blocks}


@pytest.mark.parametrize("seed", range(100))
def test_results_have_the_same_bits(clients: tuple[gw.Client, gw.Client], seed: int) -> None:
    request = Request(seed)
    remote, local = (
        client.value_and_grad(request.loss, **request.options).evaluate(request.arrays) for client in clients
    )
    assert bits(remote) == bits(local)
    assert list(remote.gradients) == list(local.gradients)


@pytest.mark.parametrize("seed", range(10))
def test_results_are_the_callers(clients: tuple[gw.Client, gw.Client], seed: int) -> None:
    request = Request(seed)
    for client in clients:
        call = client.value_and_grad(request.loss, **request.options)
        first = call.evaluate(request.arrays)
        before = bits(first)
        call.evaluate({name: array + 1 for name, array in request.arrays.items()})
        assert bits(first) == before
        for array in (*first.gradients.values(), *first.outputs.values()):
            array[...] = 0


W, X, I = gw.parameter("w", (3,)), gw.input("x", (3,), per_example=True), gw.input("i", (2,), dtype="int64")  # noqa: E741
LOSS = gw.sum(gw.log(gw.dot(W, X)) * gw.take(W, I))
GOOD = {"w": np.ones(3), "x": np.ones((4, 3)), "i": np.array([0, 2])}
F32 = {"w": np.ones(3, np.float32), "x": np.ones((4, 3), np.float32), "i": GOOD["i"]}


def node(**kind: Any) -> graph_pb2.Node:
    return graph_pb2.Node(**kind)


BAD_GRAPH = graph_pb2.Graph(
    nodes=[node(name="w", parameter=graph_pb2.Parameter(shape=[2])), node(add={"operands": [5]})]
)
HUGE = gw.sum(gw.matmul(gw.parameter("a", (20_000, 1)), gw.parameter("b", (1, 20_000))))

WRONG: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "missing": (LOSS, {}, {"w": GOOD["w"], "i": GOOD["i"]}),
    "surplus": (LOSS, {}, {**GOOD, "weights": 1.0}),
    "shape": (LOSS, {}, {**GOOD, "w": np.ones(4)}),
    "no examples axis": (LOSS, {}, {**GOOD, "x": 1.0}),
    "several": (LOSS, {"wrt": ["v", "w", "w", "i"]}, {"x": np.ones((4, 2)), "y": 1.0}),
    "numbers of examples": (
        gw.dot(W, X) * gw.input("y", per_example=True),
        {},
        {"w": GOOD["w"], "x": GOOD["x"], "y": np.ones(3)},
    ),
    "no examples": (LOSS, {}, {**GOOD, "x": np.ones((0, 3))}),
    "wrt": (LOSS, {"wrt": ["nothing"]}, GOOD),
    "wrt of indices": (LOSS, {"wrt": ["i"]}, GOOD),
    "index": (LOSS, {}, {**GOOD, "i": np.array([0, 3])}),
    "index of an example": (
        gw.take(W, gw.input("j", per_example=True, dtype="int64")),
        {},
        {"w": GOOD["w"], "j": np.array([0, 1, -4])},
    ),
    "not finite": (LOSS, {"reject_non_finite": True}, {**GOOD, "x": -np.ones((4, 3))}),
    "not finite, of one example": (
        LOSS,
        {"reject_non_finite": True},
        {**F32, "x": np.array([[1, 1, 1], [1, 1, 1], [-1, 0, 1], [-1, -1, -1]], np.float32)},
    ),
    "graph": (BAD_GRAPH, {}, {"w": np.ones(2)}),
    "too large": (HUGE, {}, {"a": np.ones((20_000, 1)), "b": np.ones((1, 20_000))}),
    "axes": (LOSS, {}, {**GOOD, "w": np.ones((1,) * 40)}),
    "too late": (LOSS, {}, {**GOOD, "timeout": 0}),
}


def facts(client: gw.Client, loss: Any, options: dict[str, Any], arrays: dict[str, Any]) -> tuple[Any, ...]:
    """What an error says."""
    given = dict(arrays)
    timeout = given.pop("timeout", None)
    with pytest.raises(gw.GradwireError) as raised:
        client.value_and_grad(loss, **options).evaluate(given, timeout=timeout)
    error = raised.value
    return type(error), str(error), error.reason, error.node, error.metadata, error.findings, error.retry_after


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_the_same(clients: tuple[gw.Client, gw.Client], case: str) -> None:
    remote, local = (facts(client, *WRONG[case]) for client in clients)
    assert remote == local


def test_traces_and_checks_are_the_same(clients: tuple[gw.Client, gw.Client]) -> None:
    one = {**GOOD, "x": np.array([1.0, 2.0, 3.0])}
    remote, local = (client.trace(LOSS, one) for client in clients)
    assert [(n.name, n.op, n.value.tobytes()) for n in remote.nodes] == [
        (n.name, n.op, n.value.tobytes()) for n in local.nodes
    ]
    assert clients[0].check(LOSS, GOOD) == clients[1].check(LOSS, GOOD)
    assert clients[0].info().ops == clients[1].info().ops
