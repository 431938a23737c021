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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [np.arctan, np.arcsin, np.arccos, np.arcsinh, np.arccosh, np.sinh, np.cosh])
def test_nan_and_what_is_outside_the_domain_is_nan(client: gw.Client, function: Any) -> None:
    given = np.array([np.nan, *(x for x in (2.0, -2.0, -1e10) if np.isnan(function(x)))])
    found, slopes = client.value_and_grad(lambda x: np.sum(function(x)))(given)
    assert np.isnan(found)
    assert np.isnan(slopes).all()


def test_heaviside_passes_nan_on(client: gw.Client) -> None:
    assert np.isnan(client.value_and_grad(lambda x: np.heaviside(x, 0.5))(np.array(np.nan))[0])


@pytest.mark.parametrize("x", [[np.nan, 1.0], [1.0, np.nan]])
def test_the_angle_of_nan_is_nan(client: gw.Client, x: Any) -> None:
    value, slopes = client.value_and_grad(lambda x: np.arctan2(x[0], x[1]))(np.array(x))
    assert np.isnan(value)
    assert np.isnan(slopes).any()


POINTS = [
    (1e200, 1),
    (1, 1e200),
    (1e20, 1),
    (1e-200, 1e-200),
    (1e-200, -1e-190),
    (-3, 4),
    (-1e5, -1),
    (1, 1e5),
    (0, -2),
]


@pytest.mark.parametrize(("y", "x", "dtype"), in_both_dtypes(POINTS))
def test_arctan2_of_far_and_near_points(client: gw.Client, y: float, x: float, dtype: str) -> None:
    given = np.array([y, x], dtype)
    value, slopes = client.value_and_grad(lambda p: np.arctan2(p[0], p[1]))(given)
    wide = given.astype(np.longdouble)
    expected = np.array([wide[1], -wide[0]]) / np.hypot(*wide) ** 2
    precision, least = 8 * float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    np.testing.assert_allclose(value, np.arctan2(*given), rtol=precision)
    np.testing.assert_allclose(slopes, expected.astype(float), rtol=precision, atol=least)


@pytest.mark.parametrize(
    ("y", "x"), [(a, b) for a in (np.inf, -np.inf, 1.0) for b in (np.inf, -np.inf, 0.0)] + [(0, 0)]
)
def test_arctan2_of_infinities_and_zeros(client: gw.Client, y: float, x: float) -> None:
    value, slopes = client.value_and_grad(lambda p: np.arctan2(p[0], p[1]))(np.array([y, x]))
    assert value == np.arctan2(y, x)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize(
    ("function", "x", "slope"),
    [(np.arcsin, 1.0, np.inf), (np.arcsin, -1.0, np.inf), (np.arccos, 1.0, -np.inf), (np.arccos, -1.0, -np.inf)],
)
def test_slopes_at_the_ends_of_domains(client: gw.Client, function: Any, x: float, slope: float) -> None:
    assert client.value_and_grad(function)(np.array(x)) == (function(x), slope)


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
    call = client.value_and_grad(lambda p: np.hypot(p[0], p[1]))
    value, slopes = call(given)
    assert call.evaluate(given).non_finite is None
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
