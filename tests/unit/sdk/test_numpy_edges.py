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
