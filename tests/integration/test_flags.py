"""What stands among the arguments of a loss and is no array: flags, text, functions, and fields that others make."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

import gradwire as gw

W, X = np.array([1.0, 2.0]), np.array([3.0, 4.0])


def loss(w: Any, x: Any, train: bool = False, mode: str = "sum", last: Any = None) -> Any:
    total = np.sum(w * x) if mode == "sum" else np.mean(w * x)
    if train:
        total = total + np.sum(w**2)
    return last(total) if last else total


def test_flags_text_and_functions_are_what_they_are(client: gw.Client) -> None:
    step = client.value_and_grad(loss)
    found = [step(W, x=X, **given)[0] for given in ({}, {"train": True}, {"train": False}, {"mode": "mean"})]
    assert found == [11, 16, 11, 5.5]
    assert step(W, X, True, "mean")[0] == 10.5
    value, slope = step(W, x=X, last=gw.square)
    assert (value, slope.tolist()) == (121, [66, 88])


class Doubled:
    def __call__(self, total: Any) -> Any:
        return total * 2


@dataclass
class Weighed:
    w: Any

    def __call__(self, total: Any) -> Any:
        return self.w * total


def test_whatever_can_be_called_is_a_function_unless_it_is_a_container(client: gw.Client) -> None:
    step = client.value_and_grad(loss)
    for last, factor in ((partial(np.multiply, 3), 3), (np.negative, -1), (Doubled(), 2)):
        value, slope = step(W, x=X, last=last)
        assert (value, slope.tolist()) == (11 * factor, (X * factor).tolist())
    assert step(W, x=X, last=Weighed(4.0))[0] == 44
    assert client.value_and_grad(lambda net, x: net(x))(Weighed(4.0), 3.0) == (12, Weighed(3.0))


def test_1_is_data_where_true_is_a_flag(client: gw.Client) -> None:
    step = client.value_and_grad(lambda w, scale: w * scale)
    assert [step(3.0, scale=scale)[0] for scale in (True, 2, False, 1)] == [3, 6, 0, 3]


def test_by_keyword_alone_there_is_no_gradient_in_a_flag(client: gw.Client) -> None:
    _, slopes = client.value_and_grad(loss, inputs=("x", "train"))(w=W, x=X, train=True)
    assert {name: slope.tolist() for name, slope in slopes.items()} == {"w": [5, 8]}


def test_other_derivatives_take_them(client: gw.Client) -> None:
    assert client.hvp(loss)(X, W, x=X, train=True).tolist() == [6, 8]
    assert client.jacobian(loss)(W, x=X, train=True).tolist() == [5, 8]
    assert client.vjp(loss)(2.0, W, x=X, train=True)[1].tolist() == [10, 16]


@pytest.mark.parametrize(
    ("given", "options"), [(("text", X), {}), ((W, X, True), {"wrt": "train"}), ((W, X, True), {"wrt": ("w", "train")})]
)
def test_what_is_differentiated_is_an_array(client: gw.Client, given: Any, options: Any) -> None:
    with pytest.raises(gw.InvalidRequestError, match=r'"(w|train)" is no array, and there is no gradient in it'):
        client.value_and_grad(loss, **options)(*given)


@dataclass
class Scaled:
    w: Any
    norm: Any = field(init=False)

    def __post_init__(self) -> None:
        self.norm = np.sqrt(np.sum(self.w**2))


@dataclass(frozen=True, slots=True)
class Counted:
    w: Any
    count: int = field(init=False, default=3)


@dataclass
class Begun:
    w: Any
    start: InitVar[int]
    first: Any = field(init=False)

    def __post_init__(self, start: int) -> None:
        self.first = self.w[start]


@dataclass
class Computed:
    w: Any
    mode: str = field(init=False)
    sizes: tuple[int, ...] = field(init=False)
    norm: Any = field(init=False)

    def __post_init__(self) -> None:
        self.mode, self.sizes, self.norm = "train", self.w.shape, np.sum(self.w**2)


def test_flags_and_text_in_place_of_what_the_constructor_makes_stay(client: gw.Client) -> None:
    seen = []

    def loss(p: Computed) -> Any:
        seen.append((p.mode, p.sizes))
        return p.norm * (3 if p.mode == "test" else 1)

    step = client.value_and_grad(loss)
    params = Computed(np.array([1.0, 2.0]))
    assert step(params)[0] == 5
    params.mode, params.sizes, params.norm = "test", (7, True), 100.0
    value, grads = step(params)
    assert (value, grads.mode, grads.sizes, grads.norm, list(grads.w)) == (15, "test", (7, True), 180, [6, 12])
    params.sizes = (7, 1)
    assert step(params)[1].sizes == (7, 1)
    assert step(Computed(params.w))[0] == 5
    assert seen == [("train", (2,)), ("test", (7, True)), ("test", (7, 1))]


def test_fields_that_others_make_are_made_of_the_expressions(client: gw.Client) -> None:
    value, slope = client.value_and_grad(lambda p: p.norm * 2)(Scaled(np.array([3.0, 4.0])))
    np.testing.assert_allclose(value, 10)
    np.testing.assert_allclose(slope.w, [1.2, 1.6])
    value, slope = client.value_and_grad(lambda p: np.sum(p.w) * p.count)(Counted(W))
    assert (value, slope.w.tolist(), slope.count) == (9, [3, 3], 3)
    with pytest.raises(gw.InvalidRequestError, match="dataclass Begun makes fields of what it does not keep, start"):
        client.value_and_grad(lambda p: p.first)(Begun(W, 0))
