"""NumPy's functions at the edges: NaN, infinities, the ends of domains, and numbers whose squares no float holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradwire as gw


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


def in_both_dtypes(pairs: list[tuple[float, float]]) -> list[tuple[float, float, str]]:
    """The pairs in float64, and in float32 those that it holds."""
    held = [pair for pair in pairs if all(number == 0 or 1e-30 < abs(number) < 1e30 for number in pair)]
    return [(*pair, "float64") for pair in pairs] + [(*pair, "float32") for pair in held]


def test_heaviside_passes_nan_on(client: gw.Client) -> None:
    assert np.isnan(client.value_and_grad(lambda x: np.heaviside(x, 0.5))(np.array(np.nan))[0])


@pytest.mark.parametrize(
    ("function", "x", "slope"),
    [
        (np.sinh, 710.0, np.cosh(710.0)),
        (np.sinh, -710.4, np.cosh(710.4)),
        (np.sinh, 1e-9, 1.0),
        (np.cosh, 710.0, np.sinh(710.0)),
        (np.cosh, -710.4, -np.sinh(710.4)),
        (np.arcsinh, 1e200, 1e-200),
        (np.arcsinh, -1e8, 1e-8),
        (np.arcsinh, 1e-200, 1.0),
        (np.arccosh, 1e200, 1e-200),
        (np.arccosh, 1.5, 1 / np.sqrt(1.25)),
        (np.arccosh, 1.0, np.inf),
    ],
)
def test_hyperbolic_functions_over_the_range_of_floats(
    client: gw.Client, function: Any, x: float, slope: float
) -> None:
    value, found = client.value_and_grad(function)(np.array(x))
    np.testing.assert_allclose([value, found], [function(x), slope], rtol=1e-15)


@pytest.mark.parametrize("function", [np.sinh, np.cosh, np.arcsinh])
def test_second_derivatives_of_hyperbolic_functions(client: gw.Client, function: Any) -> None:
    x = np.array([-25.0, -0.5, 0.0, 3.0, 25.0])
    _, bent = client.value_and_grad(lambda x: np.sum(gw.gradient(np.sum(function(x)), x)))(x)
    np.testing.assert_allclose(bent, -x / (1 + x * x) ** 1.5 if function is np.arcsinh else function(x), rtol=1e-12)


SIDES = [
    (1e200, 1e200),
    (-1e308, 1e308),
    (1e-200, 1e-200),
    (1e20, -1e20),
    (1e-20, 2e-20),
    (1e13, 1e14),
    (0, 2),
    (3, -4),
]


@pytest.mark.parametrize(("a", "b", "dtype"), in_both_dtypes(SIDES))
def test_hypot_of_far_and_near_points(client: gw.Client, a: float, b: float, dtype: str) -> None:
    given = np.array([a, b], dtype)
    value, slopes = client.value_and_grad(lambda p: np.hypot(p[0], p[1]))(given)
    precision = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(value, np.hypot(*given), rtol=precision)
    np.testing.assert_allclose(slopes, given / np.hypot(*given), rtol=precision)
    _, bent = client.value_and_grad(lambda p: gw.gradient(np.hypot(p[0], p[1]), p)[0])(given)
    wide = given.astype(np.longdouble)
    expected = wide[1] / np.hypot(*wide) * (np.array([wide[1], -wide[0]]) / np.hypot(*wide)) / np.hypot(*wide)
    np.testing.assert_allclose(bent, expected.astype(float), rtol=1e-4, atol=float(np.finfo(dtype).tiny))


def test_hypot_broadcasts(client: gw.Client) -> None:
    value, slopes = client.value_and_grad(lambda p: np.sum(np.hypot(p, 1.0)))(np.array([0.0, 1.0]))
    np.testing.assert_allclose(value, 1 + np.sqrt(2), rtol=1e-15)
    np.testing.assert_allclose(slopes, [0, np.sqrt(0.5)], rtol=1e-15)
