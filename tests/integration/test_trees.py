"""Pytrees: what goes in nested comes out nested, under names that errors have."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import gradwire as gw


class Layer(NamedTuple):
    w: Any
    b: Any


@dataclass
class Model:
    layers: Any
    scale: Any
    called: str = field(default="model", metadata={"static": True})

    def __post_init__(self) -> None:
        assert isinstance(self.scale, float)


@dataclass(frozen=True, slots=True)
class Frozen:
    w: Any
    more: Any = None


def mlp(params: Model, x: Any, y: Any) -> gw.Expression:
    for layer in params.layers:
        x = gw.tanh(gw.matmul(layer.w, x) + layer.b)
    return gw.squared_error(gw.sum(x) * params.scale, y)


def model(seed: int = 0) -> Model:
    random = np.random.default_rng(seed)
    layers = [Layer(random.normal(size=(4, 3)), random.normal(size=4)), Layer(random.normal(size=(2, 4)), np.zeros(2))]
    return Model(layers, 0.5)


def by_torch(params: Model, x: Any, y: Any) -> tuple[float, list[Any]]:
    leaves = [torch.tensor(leaf, requires_grad=True) for layer in params.layers for leaf in layer]
    leaves.append(torch.tensor(params.scale, dtype=torch.float64, requires_grad=True))
    hidden = torch.tensor(x)
    for w, b in (leaves[:2], leaves[2:4]):
        hidden = torch.tanh(hidden @ w.T + b)
    loss = ((hidden.sum(1) * leaves[4] - torch.tensor(y)) ** 2).mean()
    return float(loss.detach()), [slope.numpy() for slope in torch.autograd.grad(loss, leaves)]


def data(examples: int = 6) -> dict[str, Any]:
    random = np.random.default_rng(7)
    return {"x": random.normal(size=(examples, 3)), "y": random.normal(size=examples)}


def test_gradients_are_nested_as_the_parameters_are(client: gw.Client) -> None:
    params, arrays = model(), data()
    value, grads = client.value_and_grad(mlp, per_example=("x", "y"))(params, **arrays)
    expected, leaves = by_torch(params, **arrays)
    assert isinstance(grads, Model)
    assert isinstance(grads.layers, list)
    assert [type(layer) for layer in grads.layers] == [Layer, Layer]
    assert grads.called == "model"
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for found, leaf in zip([leaf for layer in grads.layers for leaf in layer] + [grads.scale], leaves, strict=True):
        np.testing.assert_allclose(found, leaf, rtol=1e-12)


def test_a_stream_a_check_and_a_trace_take_them_too(client: gw.Client) -> None:
    params, arrays = model(), data()
    options: gw.Options = {"per_example": ("x", "y")}
    value, grads = client.value_and_grad(mlp, **options)(params, **arrays)
    with client.stream(mlp, **options) as stream:
        again, others = stream(params, **arrays)
        later = stream.submit(params, **arrays).result().gradients
    assert again == value
    np.testing.assert_array_equal(others.layers[0].w, grads.layers[0].w)
    np.testing.assert_array_equal(later.layers[1].b, grads.layers[1].b)
    report = client.check(mlp, params, **arrays, options=options)
    assert report
    assert {source.name for source in report.sources} == {
        "params.layers.0.w",
        "params.layers.0.b",
        "params.layers.1.w",
        "params.layers.1.b",
        "params.scale",
    }
    one = {name: array[0] for name, array in arrays.items()}
    assert client.trace(mlp, params, **one, options=options)["params.scale"].value == 0.5


async def test_asyncio_takes_them_too() -> None:
    params, arrays = model(), data()
    with gw.connect("local") as client:
        expected = client.value_and_grad(mlp, per_example=("x", "y"))(params, **arrays)
    async with gw.AsyncClient("local") as client:
        value, grads = await client.value_and_grad(mlp, per_example=("x", "y"))(params, **arrays)
        async with client.stream(mlp, per_example=("x", "y")) as stream:
            _, others = await stream(params, **arrays)
    assert value == expected[0]
    np.testing.assert_array_equal(grads.layers[0].w, expected[1].layers[0].w)
    np.testing.assert_array_equal(others.layers[0].w, expected[1].layers[0].w)


def test_what_the_loss_does_not_reach_has_exact_zeros(client: gw.Client) -> None:
    params = OrderedDict(used=np.array([1.0, 2.0]), unused={"deep": (np.ones((2, 3)), None, [])})
    _, grads = client.value_and_grad(lambda p: gw.sum(p["used"] ** 2))(params)
    assert list(grads) == ["used", "unused"]
    np.testing.assert_array_equal(grads["used"], [2, 4])
    np.testing.assert_array_equal(grads["unused"]["deep"][0], np.zeros((2, 3)))
    assert grads["unused"]["deep"][1:] == (None, [])


def test_the_first_positional_argument_is_differentiated_as_in_jax(client: gw.Client) -> None:
    def loss(w: Any, x: Any, y: Any) -> gw.Expression:
        return gw.squared_error(gw.dot(w, x), y)

    w, x, y = np.array([1.0, 2.0]), np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([0.0, 1.0])
    each = ("x", "y")
    step = client.value_and_grad(loss, per_example=each)
    for value, slope in (step(w, x, y), step(w, x=x, y=y)):
        assert value == 13
        np.testing.assert_array_equal(slope, [1, 15])
    _, (first, second) = client.value_and_grad(loss, wrt=("y", "w"), per_example=each)(w, x, y)
    np.testing.assert_array_equal(first, [-1, -5])
    np.testing.assert_array_equal(second, [1, 15])
    _, alone = client.value_and_grad(loss, wrt="x", per_example=each)(w, x=x, y=y)
    np.testing.assert_array_equal(alone, [[1, 2], [5, 10]])
    _, separate = client.value_and_grad(loss, reduction="none", per_example=each)(w, x=x, y=y)
    np.testing.assert_array_equal(separate, [[2, 0], [0, 30]])


def test_keywords_beside_a_positional_argument_are_data_and_may_be_rows(client: gw.Client) -> None:
    step = client.value_and_grad(lambda table, rows: gw.sum(gw.take(table, rows)))
    value, slope = step(np.array([1.0, 2.0, 4.0]), rows=np.array([0, 2, 2]))
    assert value == 9
    np.testing.assert_array_equal(slope, [1, 0, 2])


def test_data_may_be_nested_and_lists_by_keyword_are_arrays(client: gw.Client) -> None:
    def loss(w: Any, batch: Any, scale: Any) -> gw.Expression:
        return gw.mul(gw.dot(w, batch["x"]), batch["y"], scale[1])

    batch = {"x": [[1.0, 2.0], [3.0, 4.0]], "y": np.array([1.0, -1.0])}
    value, slope = client.value_and_grad(loss, per_example="batch")(np.ones(2), batch=batch, scale=[0.0, 2.0])
    assert value == -4
    np.testing.assert_array_equal(slope, [-2, -2])
    one, _ = client.value_and_grad(loss, per_example="batch.x")(np.ones(2), batch=batch | {"y": 3.0}, scale=[0.0, 2.0])
    assert one == 30


def test_by_keyword_alone_gradients_go_by_name(client: gw.Client) -> None:
    value, grads = client.value_and_grad(lambda p, b: gw.sum(p.w) * b)(p=Frozen(np.ones(2)), b=3.0)
    assert value == 6
    assert set(grads) == {"p", "b"}
    np.testing.assert_array_equal(grads["p"].w, [3, 3])
    assert (grads["p"].more, grads["b"]) == (None, 2)


def test_a_new_shape_is_a_new_graph_and_other_values_are_not(client: gw.Client) -> None:
    traced = []

    def loss(params: Any) -> gw.Expression:
        traced.append(1)
        return gw.sum(params["w"] ** 2)

    step = client.value_and_grad(loss)
    for size in (2, 3, 2):
        for scale in (1.0, 2.0):
            value, grads = step({"w": np.full(size, scale)})
            assert value == size * scale**2
            np.testing.assert_array_equal(grads["w"], np.full(size, 2 * scale))
    assert len(traced) == 2


def test_more_than_the_loss_comes_back(client: gw.Client) -> None:
    def loss(params: Any, x: Any) -> Any:
        score = gw.dot(params["w"], x)
        return score**2, {"score": score, "norms": [gw.sum(params["w"] ** 2), 1.0], "w": params["w"]}

    w, x = np.array([1.0, 2.0]), np.array([[1.0, 1.0], [0.0, -1.0]])
    (value, aux), grads = client.value_and_grad(loss, per_example="x", has_aux=True)({"w": w}, x=x)
    assert value == 6.5
    np.testing.assert_array_equal(grads["w"], [3, 5])
    np.testing.assert_array_equal(aux["score"], [3, -2])
    assert aux["norms"] == [5, 1]
    np.testing.assert_array_equal(aux["w"], w)
    with pytest.raises(gw.InvalidGraphError, match=r"returned Expression; with has_aux it returns \(loss, more\)"):
        client.value_and_grad(lambda w: w, has_aux=True)(1.0)


def test_names_of_keys_that_are_no_python_names(client: gw.Client) -> None:
    params = {"a.b": np.inf, "a": {"b": 1.0}, 3: [2.0], "3": 4.0}
    names = {source.name for source in client.check(lambda p: p["a.b"] * 0, params | {"a.b": 1.0}).sources}
    assert names == {"p['a.b']", "p.a.b", "p.3.0", "p['3']"}


MISTAKES: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (
        lambda p: p["w"],
        ({"w": "text"},),
        {},
        r"\"p.w\" is 'text'; expected numbers, for a container holds arrays",
    ),
    (lambda p: p["w"], ({"w": [np.ones(2), "text"]},), {}, r"\"p.w.1\" is 'text'; expected numbers"),
    (
        lambda p: p["w"],
        ({"w": 1.0, "train": True},),
        {},
        r'"p.train" is True; .* flags and text are arguments of their own, or fields',
    ),
    (
        lambda w, x: w,
        (1.0,),
        {"x": {"how": np.sin, "of": len}},
        r'"x.of" is <built-in .* with metadata={"static": True}',
    ),
    (lambda a, **k: a["b"], ({"b": 1.0},), {"a.b": 2.0}, "two arrays of this call have one name"),
    (lambda p, x: x, ({"w": 1.0}, 1.0), {"x": 2.0}, 'argument "x" is given twice, by position and by keyword'),
    (lambda p: p, (1.0, 2.0), {}, r"takes 1 positional arguments \['p'\]; found 2"),
    (lambda p, x: x, ({"w": 1.0},), {}, "missing a required argument: 'x'"),
    (lambda p, x: x, (1.0,), {"x": [{"a": 1.0}]}, 'array "x" has dtype object'),
]


@pytest.mark.parametrize(("function", "given", "named", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_are_named(client: gw.Client, function: Any, given: Any, named: Any, words: str) -> None:
    with pytest.raises(gw.InvalidRequestError, match=words):
        client.value_and_grad(function)(*given, **named)


def test_mistakes_in_options_are_named(client: gw.Client) -> None:
    with pytest.raises(gw.InvalidRequestError, match='wrt names "v"; the arguments of this call are w, x'):
        client.value_and_grad(lambda w, x: w * x, wrt="v")(1.0, x=1.0)
    with pytest.raises(gw.InvalidRequestError, match='no array is given for input "z"'):
        client.value_and_grad(lambda w, x: w * x, per_example="z")(1.0, x=1.0)
    with pytest.raises(gw.InvalidRequestError, match="a function returns them, with has_aux"):
        client.value_and_grad(lambda w: w, outputs="w")


def test_numbers_among_the_parameters_are_what_they_are_in_every_call(client: gw.Client) -> None:
    step = client.value_and_grad(lambda params, x: params["w"] * x + params["b"], per_example="x")
    x = np.array([1.0, 3.0])
    for number in (0.5, np.float64(0.25), np.array(0.125), 4, 0.5):
        value, grads = step({"w": 2.0, "b": number}, x=x)
        assert value == 4 + number
        assert grads == {"w": 2, "b": 1}
    for narrow in (0.5, np.float32(0.25), 0.5, 1):
        value, _ = step({"w": 2.0, "b": narrow}, x=x.astype("f4"))
        assert value == 4 + narrow
        assert value.dtype == np.float32
    with pytest.raises(gw.InvalidRequestError, match=r'"x" has dtype float32 and array "params.b" float64'):
        step({"w": 2.0, "b": np.float64(0.5)}, x=x.astype("f4"))
    with pytest.raises(gw.InvalidRequestError, match=r'"params.b"'):
        step({"w": 2.0, "b": "half"}, x=x)


def test_shapes_that_differ_name_the_leaf(client: gw.Client) -> None:
    step = client.value_and_grad(mlp, per_example=("x", "y"))
    with pytest.raises(gw.InvalidGraphError, match=r"params\.layers\.0\.w"):
        step(model(), x=np.ones((2, 5)), y=np.ones(2))
    with pytest.raises(gw.InvalidRequestError, match=r'"params\.layers\.0\.w" float64'):
        step(model(), x=np.ones((2, 3), np.float32), y=np.ones(2))


def test_variables_of_the_function_name_nodes(client: gw.Client) -> None:
    def loss(w: Any, x: Any) -> gw.Expression:
        ratio = gw.log(w["a"]) / x
        return gw.sum(ratio)

    result = client.value_and_grad(loss).evaluate({"a": np.array([1.0, 2.0])}, x=0.0)
    assert result.non_finite is not None
    trace = client.trace(loss, {"a": np.array([1.0, 2.0])}, x=2.0)
    np.testing.assert_allclose(trace["ratio"].value, [0, np.log(2) / 2])


def test_names_of_variables_stay_off_what_others_share(client: gw.Client) -> None:
    outer = gw.constant(2.0) * gw.constant(3.0)

    def loss(w: Any) -> gw.Expression:
        held = outer
        twice = w * held
        return gw.add(twice, twice)

    assert client.value_and_grad(loss)(1.0)[0] == 12
    assert outer.name == ""


def test_names_with_one_field_each() -> None:
    Pair = namedtuple("Pair", "left right")  # noqa: PYI024  (the kind without types)
    with gw.connect("local") as client:
        _, grads = client.value_and_grad(lambda pair: pair.left * pair.right)(Pair(2.0, 3.0))
    assert grads == Pair(3, 2)


@dataclass
class Counted:
    w: Any
    size: int = field(init=False, default=0)
    steps: int = field(init=False, default=0)
    total: Any = field(init=False)
    kept: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.size = self.w.shape[0]
        self.total = np.sum(self.w)


def test_a_field_that_the_constructor_does_not_take_is_not_lost() -> None:
    params = Counted(np.array([1.0, 2.0]))
    with gw.connect("local") as client:
        step = client.value_and_grad(lambda p: p.total * (p.size + p.steps))
        params.w *= 2
        assert step(params)[0] == 12
        params.steps = 7
        value, grads = step(params)
        assert (value, grads.steps, grads.total, list(grads.w)) == (54, 7, 18, [9, 9])
        params.kept["a"] = 1
        with pytest.raises(gw.InvalidRequestError, match=r'"kept" of dataclass Counted is'):
            step(params)


@dataclass
class Layered:
    w: Any
    how: Any = field(default=None, metadata={"static": True})


def test_static_fields_that_are_equal_and_of_other_kinds_are_others() -> None:
    with gw.connect("local") as client:
        step = client.value_and_grad(lambda p: p.w * (2 if p.how is True or p.how == (1, True) else 3))
        for how, factor in ((True, 2), (1, 3), (1.0, 3), ((1, True), 2), (True, 2)):
            value, slope = step(Layered(5.0, how))
            assert (value, slope.how, type(slope.how)) == (5 * factor, how, type(how))
        step = client.value_and_grad(lambda p: p.w * len(str(p.how)))
        assert [step(Layered(1.0, how))[0] for how in ((1, 1), (1, True), (1, 1.0))] == [6, 9, 8]


@pytest.mark.parametrize("how", [np.ones(2), [1, 2], (1, [2])])
def test_a_static_field_is_hashable(how: Any) -> None:
    with (
        gw.connect("local") as client,
        pytest.raises(gw.InvalidRequestError, match=r'"how" of dataclass Layered is of'),
    ):
        client.value_and_grad(lambda p: p.w * 2)(Layered(1.0, how))
