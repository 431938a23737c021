"""Many operations on scalars are packed into few nodes, and nobody can tell but by the time it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  (its usual name)

import gradwire as gw
from gradwire._graphs import packing
from gradwire._graphs.graph import build_graph
from gradwire.v1 import graph_pb2

RANDOM = np.random.default_rng(5)
ARRAYS: dict[str, Any] = {
    "w": RANDOM.normal(size=4),
    "m": RANDOM.normal(size=(2, 3)),
    "s": RANDOM.normal(),
    "z": RANDOM.normal(size=(2, 2)),
    "x": RANDOM.normal(size=(5, 3)),
    "t": RANDOM.normal(size=5),
}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack also where there is little to pack."""
    monkeypatch.setattr(packing, "PACKED_FROM", 1)
    monkeypatch.setattr(packing, "SAVED", -100)


def kinds(graph: graph_pb2.Graph) -> Counter[str]:
    return Counter(node.WhichOneof("kind") or "" for node in graph.nodes)


def swarms(graph: graph_pb2.Graph) -> list[graph_pb2.Scalars]:
    return [node.scalars for node in graph.nodes if node.HasField("scalars")]


def check_alike(loss: gw.Expression, *, exact: bool = False, ties: str = "zero", **options: Any) -> None:
    """The packed graph and that of a node for each operation give the same."""
    outputs = {node.name: node for node in options.pop("outputs", ())}
    packed, plain = (build_graph(loss, ties, outputs, packed=pack) for pack in (True, False))
    assert swarms(packed)
    assert not swarms(plain)
    assert {node.name for node in packed.nodes} == {node.name for node in plain.nodes}
    arrays = {name: array for name, array in ARRAYS.items() if any(node.name == name for node in plain.nodes)}
    with gw.connect("local") as client:
        one, other = (
            client.value_and_grad(graph, outputs=list(outputs), **options).evaluate(arrays) for graph in (packed, plain)
        )
    rtol = 0 if exact else 1e-12
    np.testing.assert_allclose(one.loss, other.loss, rtol=rtol)
    assert list(one.outputs) == list(other.outputs)
    for name, value in other.outputs.items():
        np.testing.assert_allclose(one.outputs[name], value, rtol=rtol)
    assert list(one.gradients) == list(other.gradients)
    for name, gradient in other.gradients.items():
        np.testing.assert_allclose(one.gradients[name], gradient, rtol=1e-10, atol=1e-12)


def drawn(seed: int, *, exact: bool) -> tuple[gw.Expression, list[gw.Expression]]:
    """A random loss of scalars, tensors, and what leads from the ones to the others; and some of it with names."""
    random = np.random.default_rng(seed)
    w, m, s = gw.parameter("w", 4), gw.parameter("m", (2, 3)), gw.parameter("s")
    x, t = gw.input("x", 3, per_example=True), gw.input("t", per_example=True)
    z, vector = gw.input("z", (2, 2)), gw.constant([1.0, 2.0, -0.5])
    pool = [w[0], w[-1], w[1:][0], w[[2, 2]][1], m[1][2], m.T[2][0], m.reshape(3, 2)[1][1], s, z[0][1], x[1], x[0], t]
    pool += [vector[1], gw.constant(-1.5), gw.constant(0.0).named("zero"), m[0].named("row")[1]]
    pool += [w[1:3][0], m[::-1, ::2][0][1], m[:, [2, 0]][1, 0], z[:, 1:][0][0]]
    inexact = [
        gw.sigmoid,
        gw.tanh,
        gw.softplus,
        gw.sin,
        gw.cos,
        gw.erf,
        lambda a: gw.log1p(gw.expm1(gw.tanh(a))),
        lambda a: gw.exp(gw.tanh(a)),
        lambda a: gw.log(gw.softplus(a)),
    ]
    functions: list[Callable[..., Any]] = [
        gw.add,
        gw.maximum,
        lambda a, b: a * b * 0.25,
        lambda a, b: gw.add(a, b, 1, a),
        lambda a, b: gw.maximum(a, b, 0.5),
        lambda a, b: gw.mul(a, b, -0.5) ** 2,
        lambda a, b: gw.where(a > b, a, b * 0.5),
        lambda a, b: gw.where((a <= 0.25) | (b == s), b, gw.sign(a)),
        lambda a, _: (a * vector @ m.T)[1],
        lambda a, _: gw.sum(gw.maximum(a, w)),
        lambda a, _: gw.reshape(a, (1, 1))[0][0],
        *([] if exact else [lambda a, _, f=f: f(a) for f in inexact]),
    ]
    named = []
    for number in range(30):
        a, b = (pool[i] for i in random.integers(max(0, len(pool) - 20), len(pool), 2))
        made = functions[random.integers(len(functions))](a, b)
        if random.random() < 0.15:
            made = made.named(f"made{number}")
            named.append(made)
        pool.append(made if exact else gw.tanh(made))
    return reduce(gw.add, pool), named


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(24))
def test_it_means_the_same(seed: int) -> None:
    exact, reduction = seed % 2 == 0, ("mean", "sum", "none")[seed % 3]
    loss, named = drawn(seed, exact=exact)
    outputs = [*named[::2], loss.named("all")] if seed % 4 < 2 else []
    ties = ("zero", "split")[seed % 5 == 0]
    check_alike(loss, exact=exact, reduction=reduction, ties=ties, outputs=outputs)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("ties", ["zero", "split"])
def test_ties(ties: str) -> None:
    w = gw.parameter("w", 4)
    same = w[0] * 1
    check_alike(gw.maximum(same, same * 1, w[1] * 0 + same) + gw.maximum(w[2], w[2]), exact=True, ties=ties)


@pytest.mark.parametrize("seed", range(3))
def test_a_random_graph_against_torch(seed: int) -> None:
    random = np.random.default_rng(seed)
    calls = []
    for place in range(8, 1008):
        name = random.choice(["add", "mul", "maximum", "sigmoid", "tanh", "softplus", "square", "log"])
        calls.append((str(name), random.integers(max(0, place - 100), place, 2).tolist()))

    def total(values: Sequence[Any], write: dict[str, Callable[..., Any]]) -> Any:
        made = list(values)
        for name, (a, b) in calls:
            made.append(write[name](made[a], made[b]) if name in ("add", "mul", "maximum") else write[name](made[a]))
        return reduce(write["add"], made)

    def halved(add: Callable[..., Any], mul: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"add": lambda a, b: mul(add(a, b), 0.5), "mul": lambda a, b: mul(mul(a, b), 0.5)}

    ours = {name: getattr(gw, name) for name in ("maximum", "sigmoid", "tanh", "softplus", "square")}
    ours |= {**halved(gw.add, gw.mul), "log": lambda a: gw.log(gw.softplus(a))}
    theirs = {name: getattr(torch, name) for name in ("maximum", "sigmoid", "tanh", "square")}
    theirs |= {**halved(torch.add, torch.mul), "softplus": F.softplus, "log": lambda a: torch.log(F.softplus(a))}
    w, x = gw.parameter("w", 4), gw.input("x", 4, per_example=True)
    loss = total([*w, *x], ours)
    assert len(swarms(gw.graph(loss))) <= 2
    arrays = {"w": random.normal(size=4), "x": random.normal(size=(3, 4))}
    with gw.connect("local") as client:
        value, gradients = client.value_and_grad(loss, reduction="none", wrt=["w", "x"], ties="split")(arrays)
    for number, row in enumerate(arrays["x"]):
        given = [torch.tensor(array, requires_grad=True) for array in (arrays["w"], row)]
        expected = total([*given[0], *given[1]], theirs)
        expected.backward()
        np.testing.assert_allclose(value[number], expected.item(), rtol=1e-11)
        for name, tensor in zip("wx", given, strict=True):
            np.testing.assert_allclose(gradients[name][number], np.asarray(tensor.grad), rtol=1e-8, atol=1e-13)


def chain(scalar: gw.Expression, length: int) -> gw.Expression:
    for _ in range(length):
        scalar = scalar + 1
    return scalar


def test_few_operations_stay_nodes_of_their_own() -> None:
    most = packing.PACKED_FROM - 1
    assert kinds(gw.graph(chain(gw.parameter("s"), most))) == {"parameter": 1, "constant": 1, "add": most}
    assert swarms(gw.graph(chain(gw.parameter("s"), most + 1)))


def test_elements_of_tensors_are_positions_of_their_own() -> None:
    w, m = gw.parameter("w", 3), gw.parameter("m", (2, 2))
    graph = gw.graph(chain(w[-1] + m[1][0] * 2.5, 300))
    assert kinds(graph) == {"parameter": 2, "scalars": 1, "constant": 1, "take": 1}
    [packed] = swarms(graph)
    # m is first, for its product is.
    assert [graph.nodes[index].name for index in packed.operands] == ["m", "w"]
    assert (list(packed.constants), len(packed.arities)) == ([2.5, 1.0], 0)
    assert list(packed.arguments[:6]) == [2, 7, 6, 9, 10, 8]
    assert list(packed.results) == [9 + 301]


def test_few_elements_of_a_large_tensor_are_taken_out_of_it_at_once() -> None:
    w, m = gw.parameter("w", 10_000), gw.input("m", (300, 200), per_example=True)
    loss = chain(w[7] * w[9_999] + w[7] * m[299][199] + m[1][2], 300)
    graph = gw.graph(loss)
    sizes = [len(node.constant.value.raw) // 8 for node in graph.nodes if node.HasField("constant")]
    # Two of w for what depends on no example, then one of it for the rest, two of m, and what the loss is.
    assert sorted(sizes) == [1, 1, 2, 2]
    values, rows = np.arange(10_000.0), np.arange(120_000.0).reshape(2, 300, 200)
    with gw.connect("local") as client:
        value, gradients = client.value_and_grad(loss)(w=values, m=rows)
    expected = 7.0 * 9999 + 7 * rows[:, 299, 199].mean() + rows[:, 1, 2].mean() + 300
    assert value == expected
    assert {i: gradients["w"][i] for i in np.flatnonzero(gradients["w"])} == {
        7: 9999 + rows[:, 299, 199].mean(),
        9999: 7,
    }


def test_what_depends_on_no_example_is_apart() -> None:
    w, x = gw.parameter("w", 2), gw.input("x", per_example=True)
    shared = chain(w[0] * w[1], 300)
    graph = gw.graph(shared * x + shared)
    assert [len(packed.ops) for packed in swarms(graph)] == [301, 2]
    first, second = (index for index, node in enumerate(graph.nodes) if node.HasField("scalars"))
    assert first in graph.nodes[second].scalars.operands


@pytest.mark.usefixtures("eager")
def test_what_only_outputs_need_changes_no_gradient() -> None:
    x = gw.input("x", per_example=True)
    shared = chain(x * gw.parameter("w"), 3)
    # Its slope is infinite where the loss has a gradient of zero in it, and none at all without it.
    infinite = gw.power(shared, 0.5).named("root")
    with gw.connect("local") as client:
        result = client.value_and_grad(shared * shared, outputs=[infinite]).evaluate(x=[-3.0], w=1.0)
    assert result.non_finite is None
    assert (result.outputs["root"], result.gradients["w"]) == (0, 0)


def test_turns_of_scalars_and_products_have_a_node_each() -> None:
    m, s = gw.parameter("m", (2, 3)), gw.parameter("s")
    early = chain(s, 300)
    made = early
    for _ in range(3):
        made = chain(gw.sum(m @ (made * np.ones(3))), 2)
    graph = gw.graph(made + early)
    assert [len(packed.ops) for packed in swarms(graph)] == [300, 2, 2, 3]


def test_where_it_saves_little_nothing_is_packed() -> None:
    named = gw.parameter("s")
    for number in range(300):
        named = (named + 1).named(f"n{number}")
    turns = gw.parameter("s")
    for _ in range(300):
        turns = gw.sum(np.ones((2, 3)) @ (turns * np.ones(3))) + 1
    assert not swarms(gw.graph(named))
    assert not swarms(gw.graph(turns))


@pytest.mark.usefixtures("eager")
def test_what_has_a_name_is_found_by_it() -> None:
    s = gw.parameter("s")
    inner = (s * 3).named("inner")
    loss = (chain(inner, 5) ** 2).named("loss")
    graph = gw.graph(loss)
    names = [node.name for node in graph.nodes]
    assert graph.nodes[graph.loss].name == "loss"
    with gw.connect("local") as client:
        results = [client.value_and_grad(given, outputs=outputs).evaluate(s=2.0) for given, outputs in (
            (graph, ["inner", "loss"]), (loss, [inner, loss]), (loss, {"inner": inner, "loss": loss}))]  # fmt: skip
    assert {"s", "inner", "loss"} <= set(names)
    for result in results:
        assert (result.outputs, result.gradients) == ({"inner": 6, "loss": 121}, {"s": 66})


def test_one_output_under_several_names() -> None:
    made = chain(gw.parameter("s"), 300)
    with gw.connect("local") as client:
        result = client.value_and_grad(made * 2, outputs={"a": made, "b": made, "c": made * 2}).evaluate(s=1.0)
    assert result.outputs == {"a": 301, "b": 301, "c": 602}


def test_a_trace_has_every_operation() -> None:
    s = gw.parameter("s")
    loss = chain((s * 3).named("inner"), 300)
    with gw.connect("local") as client:
        trace = client.trace(loss, s=2.0)
    assert Counter(node.op for node in trace.nodes) == {"parameter": 1, "constant": 2, "mul": 1, "add": 300}
    assert (trace.loss, trace["inner"].value, trace["inner"].gradient) == (306, 6, 1)


def test_zeros_of_either_sign_are_two_constants() -> None:
    s = gw.parameter("s")
    loss = chain(gw.add(s * -0.0, 0.0, -0.0), 300)
    [packed] = swarms(gw.graph(loss))
    assert [str(number) for number in packed.constants] == ["-0.0", "0.0", "1.0"]
    assert list(packed.arities[:3]) == [2, 3, 2]


def test_a_deep_chain_and_a_wide_sum() -> None:
    w = gw.parameter("w", 1000)
    deep = chain(w[0], 100_000)
    wide = gw.add(*[element * 2 for element in w], *[w[1]] * 100_000)
    graph = gw.graph(deep + wide)
    assert len(graph.nodes) == 4
    [packed] = swarms(graph)
    assert (len(packed.ops), len(packed.operands), max(packed.arities)) == (101_002, 1, 101_000)
    with gw.connect("local") as client:
        value, gradients = client.value_and_grad(wide)(w=np.ones(1000))
    assert (value, gradients["w"].sum(), gradients["w"][1]) == (102_000, 102_000, 100_002)


def test_data_of_whole_numbers_picks_rows_between_scalars() -> None:
    def loss(table: Any, row: Any) -> Any:
        return chain(gw.sum(table[row]), 300) * chain(table[0][1], 300)

    with gw.connect("local") as client:
        function = client.value_and_grad(loss, per_example=["row"])
        value, gradients = function(table=[[1.0, 2.0], [3.0, 4.0]], row=[1, 1])
    assert value == 307 * 302
    assert gradients["table"].tolist() == [[0, 307], [302, 302]]
