"""The machine beside the reference, op by op: the same bits where arithmetic decides, a few ulp where functions do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.engine.reference.interpreter import backward, forward, needed
from tests.unit.engine.building import Builder, evaluate

EXAMPLES, SHAPE = 19, (3, 5)

EXACT: dict[str, tuple[int, dict[str, Any]]] = {
    "add": (2, {}),
    "add of three": (3, {}),
    "mul": (2, {}),
    "mul of three": (3, {}),
    "max": (2, {}),
    "max of three": (3, {}),
    "power 2": (1, {"exponent": 2.0}),
    "power -1": (1, {"exponent": -1.0}),
    "less": (2, {}),
    "equal": (2, {}),
    "select": (3, {}),
}
ARRANGED: dict[str, tuple[int, dict[str, Any]]] = {
    "reshape": (1, {"shape": (5, 3)}),
    "transpose": (1, {"axes": (1, 0)}),
    "reduce_max": (1, {"axes": (1,)}),
    "cumsum": (1, {"axis": 1}),
    "cumsum down": (1, {"axis": 0}),
    "concatenate of three": (3, {"axis": 1}),
    "slice": (1, {"starts": (1, 0), "sizes": (2, 3), "steps": (1, 2)}),
    "slice backwards": (1, {"starts": (2, 4), "sizes": (2, 5), "steps": (-2, -1)}),
    "take": (1, {"axis": 1, "indices": [4, 0, -1, 1]}),
    "stop_gradient": (1, {}),
    "scatter_add": (1, {"axis": 1, "size": 7, "indices": [6, 0, 6, -2, 1]}),
}
NEAR: dict[str, tuple[int, dict[str, Any]]] = {
    **{name: (1, {}) for name in ("exp", "log", "sigmoid", "tanh", "softplus")},
    **{name: (1, {}) for name in ("sin", "cos", "log1p", "expm1", "erf")},
    "power 1.5": (1, {"exponent": 1.5}),
    "power -0.5": (1, {"exponent": -0.5}),
}
"""Ops by what they are called here, with their operands and attributes."""

ULP = 4
"""Units in the last place by which both may differ; each of the two has an error of up to two."""


def values_and_gradients(
    name: str, count: int, attributes: dict[str, Any], dtype: type, ties: Ties, shape: tuple[int, ...]
) -> tuple[list[Any], list[Any]]:
    """Of the machine and of the reference: the op's values, and gradients in its operands, for all examples."""
    builder, random = Builder(), np.random.default_rng(len(name))
    operands = [builder.input(f"x{i}", shape, per_example=True) for i in range(count)]
    own = dict(attributes)
    indices = [builder.constant(np.array(own.pop("indices")))] if "indices" in own else []
    node = builder.op(name.split(maxsplit=1)[0], *operands, *indices, **own)
    builder.op("sum", builder.op("mul", node, builder.input("c", per_example=True)))
    program = builder.program(ties=ties)
    # Positive numbers below 1, some of them equal; squared slopes of tanh and sigmoid keep their digits there.
    arrays: dict[str, Any] = {
        f"x{i}": np.round(random.uniform(0.05, 0.6, (EXAMPLES, *shape)), 2).astype(dtype) for i in range(count)
    }
    if name == "select":
        arrays["x0"] = np.where(arrays["x0"] < 0.3, 0, arrays["x0"]).astype(dtype)
    arrays["c"] = random.normal(size=EXAMPLES).astype(dtype)
    names = tuple(f"x{i}" for i in range(count))
    result = evaluate(program, arrays, dtype, wrt=names, outputs=(node,), reduction=Reduction.NONE)
    ours = [result.outputs[node], *(result.gradients[own] for own in names)]
    checked = program.checked
    inner = program.facts.received(node)
    wanted = checked.active([program.facts.by_name[own].node for own in names])
    theirs: list[list[Any]] = [[] for _ in ours]
    for example in range(EXAMPLES):
        one = {own: array[example] for own, array in arrays.items()}
        values = forward(checked, one, np.dtype(dtype), needed(checked, [checked.graph.loss, inner]))
        gradients = backward(checked, values, wanted)
        # What the loss passes no gradient on to has zeros.
        nodes = [program.facts.by_name[own].node for own in names]
        found = [values[inner], *(gradients[own] if wanted[own] else np.zeros(shape, dtype) for own in nodes)]
        for kept, array in zip(theirs, found, strict=True):
            kept.append(np.array(array))
    return ours, [np.array(arrays) for arrays in theirs]


@pytest.mark.parametrize("ties", list(Ties))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, shape) for name in EXACT for shape in (SHAPE, ())), *((name, SHAPE) for name in ARRANGED)],
)
def test_arithmetic_has_the_bits_of_the_reference(name: str, dtype: type, ties: Ties, shape: tuple[int, ...]) -> None:
    count, attributes = (EXACT | ARRANGED)[name]
    for ours, theirs in zip(*values_and_gradients(name, count, attributes, dtype, ties, shape), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("gradient", [0.0, 2.0])
@pytest.mark.parametrize(
    "row", [[1, np.nan, 2], [1, np.inf, 2], [np.inf, np.inf], [1, -np.inf], [-np.inf, -np.inf], [np.nan, -np.inf]]
)
def test_logsumexp_passes_back_what_the_reference_does_of_what_is_not_finite(
    row: list[float], gradient: float, dtype: type
) -> None:
    builder = Builder()
    x = builder.input("x", (len(row),))
    builder.op("mul", builder.op("logsumexp", x), builder.input("c"))
    program = builder.program()
    arrays: dict[str, Any] = {"x": np.array(row, dtype), "c": np.array(gradient, dtype)}
    checked = program.checked
    values = forward(checked, arrays, np.dtype(dtype), needed(checked, [checked.graph.loss]))
    node = program.facts.by_name["x"].node
    expected = backward(checked, values, checked.active([node]))[node]
    np.testing.assert_allclose(evaluate(program, arrays, dtype, wrt=("x",)).gradients["x"], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [SHAPE, ()])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", NEAR)
def test_functions_are_within_a_few_ulp_of_the_reference(name: str, dtype: type, shape: tuple[int, ...]) -> None:
    count, attributes = NEAR[name]
    for ours, theirs in zip(*values_and_gradients(name, count, attributes, dtype, Ties.ZERO, shape), strict=True):
        np.testing.assert_array_max_ulp(ours, theirs, ULP, dtype)
