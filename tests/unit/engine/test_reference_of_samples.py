"""The reference beside PyTorch on the samples of each op, and where comparisons and selections are by their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradwire_server.engine.graph.graph import Ties
from gradwire_server.errors import Reason, Refusal
from tests.unit.engine.building import Builder
from tests.unit.engine.interpreting import checked, interpreted
from tests.unit.engine.test_ops import IDS, SAMPLES, Sample, _loss, _weights
from tests.unit.engine.test_reference import gradients, of

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 2e-5)])
def test_value_and_gradient_are_those_of_torch(sample: Sample, dtype: type, rtol: float) -> None:
    builder, arrays, result = _loss(sample)
    program = checked(builder)
    answer = interpreted(program, arrays, dtype)
    theirs = [torch.tensor(value, requires_grad=np.asarray(value).dtype.kind == "f") for value in sample.operands]
    expected = sample.torch(*theirs)
    (expected * torch.tensor(_weights(tuple(expected.shape)))).sum().backward()
    within = 1e-7 if dtype is np.float32 else 1e-14
    received = result if program.graph.origins is None else int(program.graph.origins.nodes[result])
    np.testing.assert_allclose(answer.values[received], expected.detach().numpy(), rtol=rtol, atol=within)
    for slot, operand in enumerate(theirs):
        if operand.grad is not None:
            np.testing.assert_allclose(answer.gradients[f"p{slot}"], operand.grad.numpy(), rtol=10 * rtol, atol=within)


ORDERED = [-INF, -1.0, -0.0, 0.0, 1.0, INF, NAN]


@pytest.mark.parametrize(("op", "compared"), [("less", np.less), ("equal", np.equal)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_comparisons_are_those_of_ieee_754_and_give_no_gradient(op: str, compared: Any, dtype: type) -> None:
    builder = Builder()
    a, b = builder.parameter("a", (7, 1)), builder.parameter("b", (7,))
    node = builder.op(op, a, b)
    builder.op("sum", builder.op("mul", node, builder.constant(INF)))
    numbers = np.array(ORDERED)
    answer = interpreted(checked(builder), {"a": numbers[:, np.newaxis], "b": numbers}, dtype)
    np.testing.assert_array_equal(answer.values[node], compared(numbers[:, np.newaxis], numbers))
    assert [np.count_nonzero(gradient) for gradient in answer.gradients.values()] == [0, 0]


def test_a_selection_takes_the_first_where_the_condition_is_not_0() -> None:
    answer = of("select", ORDERED, 1.0, 2.0)
    assert answer.values[3].tolist() == [1, 1, 2, 2, 1, 1, 1]
    assert gradients(answer) == [[0] * 7, 5, 2]


@pytest.mark.parametrize("bad", [INF, NAN])
def test_what_is_not_selected_gets_0_whatever_comes_and_whatever_it_is(bad: float) -> None:
    assert gradients(of("select", [1.0, 0.0], [2.0, bad], [bad, 3.0])) == [[0, 0], [1, 0], [0, 1]]
    weighted = gradients(of("select", [1.0, 0.0], [2.0, 2.0], [3.0, 3.0], weights=[bad, 1.0]))
    np.testing.assert_equal(weighted, [[0, 0], [bad, 0], [0, 1]])


@pytest.mark.parametrize(
    ("op", "at", "value", "gradient"),
    [
        ("log1p", 1e-20, 1e-20, 1),
        ("log1p", -1.0, -INF, INF),
        ("expm1", 1e-20, 1e-20, 1),
        ("expm1", -1000.0, -1, 0),
        ("expm1", -40.0, -1, 4.248354255291589e-18),
        ("erf", 0.0, 0, 1.1283791670955126),
        ("erf", 0.5, 0.5204998778130465, 0.8787825789354449),
        ("erf", -6.0, -1, 2.6173012392492648e-16),
        ("erf", INF, 1, 0),
        ("sin", 1e22, -0.8522008497671888, 0.5232147853951389),
        ("cos", 0.0, 1, 0),
        ("sin", -0.0, -0.0, 1),
    ],
)
def test_functions(op: str, at: float, value: float, gradient: float) -> None:
    answer = of(op, at)
    np.testing.assert_allclose(answer.loss, value, rtol=3e-16)
    np.testing.assert_allclose(gradients(answer), [gradient], rtol=2e-14)


@pytest.mark.parametrize(("op", "attributes"), [("take", {"axis": 1}), ("scatter_add", {"axis": 1, "size": 3})])
def test_an_index_that_is_out_of_range_is_named(op: str, attributes: dict[str, Any]) -> None:
    builder = Builder()
    a = builder.parameter("a", (2, 3))
    builder.op("sum", builder.op(op, a, builder.input("i", (3,), integer=True), name="it", **attributes))
    with pytest.raises(Refusal) as raised:
        interpreted(checked(builder, ties=Ties.ZERO), {"a": np.ones((2, 3)), "i": [0, -4, 3]})
    assert raised.value.reason is Reason.INDEX_OUT_OF_RANGE
    assert raised.value.message == 'node "it" (nodes[2]): index -4 of "i" at position (1,) is out of range for 3 rows'


def test_entries_with_one_index_and_cumulative_sums_of_float32_add_up_in_float64() -> None:
    rows = np.zeros(3, np.int64)
    builder = Builder()
    builder.op("sum", builder.op("scatter_add", builder.parameter("x", (3,)), builder.constant(rows), axis=0, size=1))
    assert interpreted(checked(builder), {"x": [1e8, 1, -1e8]}, np.float32).loss == 1
    answer = of("cumsum", [1e8, 1, -1e8])
    builder = Builder()
    node = builder.op("cumsum", builder.parameter("x", (3,)), axis=0)
    builder.op("sum", node)
    assert interpreted(checked(builder), {"x": [1e8, 1, -1e8]}, np.float32).values[node].tolist() == [1e8, 1e8, 1]
    assert gradients(answer) == [[3, 2, 1]]
