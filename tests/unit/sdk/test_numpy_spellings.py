"""NumPy's functions with all that people give them: modes, orders, what is put before; with JAX's gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from tests.unit.sdk.referring import referred
from tests.unit.sdk.test_numpy import ARRAYS, check_line

pytestmark = pytest.mark.usefixtures("double_precision")

PLACES = np.array([0.0, 1.0, 3.0, 4.0])
GROUPS = np.array([0, 2, 2, 0])
TAKEN = np.array([True, False, True])
POWERS = np.array([2.0, 3.0, 1.0, 0.0])

LINES: dict[str, Callable[..., Any]] = {
    "x.sum(dtype=float) + x.mean(0, dtype='float64')": lambda np, x: x.sum(dtype=float) + x.mean(0, dtype="float64"),
    "np.pad(x, 1, 'edge')": lambda np, x: np.pad(x, 1, "edge"),
    "np.pad(x, 2, mode='reflect')": lambda np, x: np.pad(x, 2, mode="reflect"),
    "np.pad(x, ((1, 4), (0, 2)), 'symmetric')": lambda np, x: np.pad(x, ((1, 4), (0, 2)), "symmetric"),
    "np.pad(x, (2, 5), 'wrap')": lambda np, x: np.pad(x, (2, 5), "wrap"),
    "np.pad(v, (1, 2), constant_values=(3, 4))": lambda np, v: np.pad(v, (1, 2), constant_values=(3, 4)),
    "np.diff(v, prepend=0)": lambda np, v: np.diff(v, prepend=0),
    "np.diff(x, append=x[:, :1])": lambda np, x: np.diff(x, append=x[:, :1]),
    "np.diff(x, n=2, axis=0, prepend=1.0)": lambda np, x: np.diff(x, n=2, axis=0, prepend=1.0),
    "np.ediff1d(x, to_begin=s)": lambda np, x, s: np.ediff1d(x, to_begin=s.reshape(1)),
    "np.repeat(v, [1, 2, 0, 3])": lambda np, v: np.repeat(v, np.array([1, 2, 0, 3])),
    "np.repeat(x, [1, 0, 2], axis=0)": lambda np, x: np.repeat(x, np.array([1, 0, 2]), axis=0),
    "np.block([[x, y], [y, x]])": lambda np, x, y: np.block([[x, y], [y, x]]),
    "np.block([v, s, v])": lambda np, v, s: np.block([v, s, v]),
    "np.block([[x], [v]])": lambda np, x, v: np.block([[x], [v]]),
    "np.cov(x)": lambda np, x: np.cov(x),
    "np.cov(x, rowvar=False, bias=True)": lambda np, x: np.cov(x, rowvar=False, bias=True),
    "np.cov(v, x[0], ddof=0)": lambda np, v, x: np.cov(v, x[0], ddof=0),
    "np.cov(v)": lambda np, v: np.cov(v),
    "np.corrcoef(x)": lambda np, x: np.corrcoef(x),
    "np.corrcoef(v, x[0])[0, 1]": lambda np, v, x: np.corrcoef(v, x[0])[0, 1],
    "np.gradient(v)": lambda np, v: np.gradient(v),
    "np.gradient(x, 0.5, axis=0)": lambda np, x: np.gradient(x, 0.5, axis=0),
    "np.gradient(x)[1]": lambda np, x: np.gradient(x)[1],
    "np.take(x, [7, -5], axis=1, mode='wrap')": lambda np, x: np.take(x, np.array([7, -5]), axis=1, mode="wrap"),
    "np.take(x, [7, 1], axis=1, mode='clip')": lambda np, x: np.take(x, np.array([7, 1]), axis=1, mode="clip"),
    "np.take(x, 2) + np.take(x, 1, 0)": lambda np, x: np.take(x, 2) + np.take(x, 1, 0),
    "np.interp(x, EDGES, v, left=0, right=9)": lambda np, x, v: np.interp(x, PLACES - 1, v, left=0, right=9),
    "np.linalg.norm(x, 1) + np.linalg.norm(x, -1)": lambda np, x: np.linalg.norm(x, 1) + np.linalg.norm(x, -1),
    "np.linalg.norm(t, np.inf, axis=(0, 2))": lambda np, t: np.linalg.norm(t, np.inf, axis=(0, 2)),
    "np.linalg.norm(t, 1, axis=(2, 0), keepdims=True)": lambda np, t: np.linalg.norm(t, 1, axis=(2, 0), keepdims=True),
    "np.linalg.norm(x, -np.inf)": lambda np, x: np.linalg.norm(x, -np.inf),
    "np.linalg.norm(t, 'fro', axis=(1, 2))": lambda np, t: np.linalg.norm(t, "fro", axis=(1, 2)),
    "np.linalg.norm(v, -np.inf)": lambda np, v: np.linalg.norm(v, -np.inf),
    "np.linalg.norm(v, 0) * v": lambda np, v: np.linalg.norm(v, 0) * v,
    "np.linalg.norm(v, 0.5)": lambda np, v: np.linalg.norm(v, 0.5),
    "np.linalg.matrix_norm(t, ord=1)": lambda np, t: np.linalg.matrix_norm(t, ord=1),
    "np.vander(v)": lambda np, v: np.vander(v),
    "np.vander(v, 3, increasing=True)": lambda np, v: np.vander(v, 3, increasing=True),
    "x ** POWERS": lambda np, x: x**POWERS,
    "v[:, None] ** np.arange(3)": lambda np, v: v[:, None] ** np.arange(3.0),
    "np.power(p, POWERS / 3)": lambda np, p: np.power(p, POWERS / 3),
    "np.apply_along_axis(norm, 0, x)": lambda np, x: np.apply_along_axis(lambda r: (r**2).sum(), 0, x),
    "np.apply_along_axis(lambda r: r - r.mean(), 1, x)": lambda np, x: np.apply_along_axis(
        lambda r: r - r.mean(), 1, x
    ),
    "np.apply_along_axis(np.outer, 1, t)": lambda np, t: np.apply_along_axis(lambda r: np.outer(r, r[:2]), 1, t),
    "np.insert(v, 1, s)": lambda np, v, s: np.insert(v, 1, s),
    "np.insert(x, -1, v, axis=0)": lambda np, x, v: np.insert(x, -1, v, axis=0),
    "np.resize(v, (2, 5))": lambda np, v: np.resize(v, (2, 5)),
    "np.diagflat(x[:2, :2], 1)": lambda np, x: np.diagflat(x[:2, :2], 1),
    "np.compress(TAKEN, x, axis=0)": lambda np, x: np.compress(TAKEN, x, axis=0),
    "np.bincount(GROUPS, weights=v)": lambda np, v: np.bincount(GROUPS, weights=v, minlength=4),
    "np.correlate(v, x[0, :2])": lambda np, v, x: np.correlate(v, x[0, :2]),
    "np.correlate(v, x[0], 'full')": lambda np, v, x: np.correlate(v, x[0], "full"),
    "np.convolve(v, x[0, :3], mode='valid')": lambda np, v, x: np.convolve(v, x[0, :3], mode="valid"),
    "np.sinc(x) + np.sinc(x * 1e-4)": lambda np, x: np.sinc(x) + np.sinc(x * 1e-4),
    "np.linspace(0, s, 5)": lambda np, s: np.linspace(0, s, 5),
    "np.linspace(v, 2, 3, endpoint=False)": lambda np, v: np.linspace(v, 2, 3, endpoint=False),
    "np.nancumsum(x, axis=1)": lambda np, x: np.nancumsum(x, axis=1),
    "np.add.accumulate(x)": lambda np, x: np.cumsum(x, axis=0),
    "x.reshape(4, 3, order='F')": lambda np, x: x.reshape(4, 3, order="F"),
    "np.reshape(x, (2, -1), order='F')": lambda np, x: np.reshape(x, (2, -1), order="F"),
    "x.ravel(order='F') + np.ravel(y, 'F')": lambda np, x, y: x.ravel(order="F") + np.ravel(y, "F"),
    "np.moveaxis(t, [0, 1], [2, 0])": lambda np, t: np.moveaxis(t, [0, 1], [2, 0]),
    "np.dot(t, m) + np.dot(t, v)[..., None]": lambda np, t, m, v: np.dot(t, m) + np.dot(t, v)[..., None],
    "np.dot(x, np.moveaxis(t, 1, 2))": lambda np, x, t: np.dot(x, np.moveaxis(t, 1, 2)),
    "m[np.triu_indices_from(m, 1)]": lambda np, m: m[np.triu_indices(4, 1)],
    "x.cumprod(axis=1) + x.real * x.conj()": lambda np, x: x.cumprod(axis=1) + x.real * x.conj(),
    "np.average(x, axis=1, weights=v)": lambda np, x, v: np.average(x, axis=1, weights=v),
    "np.trapezoid(x, v)": lambda np, x, v: np.trapezoid(x, v),
    "np.std(x, axis=0, ddof=1) + x.var(ddof=1)": lambda np, x: np.std(x, axis=0, ddof=1) + x.var(ddof=1),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_has_numpys_value_and_jaxs_gradient(line: str) -> None:
    check_line(LINES[line], compiled=False)


ONLY_NUMPY: dict[str, Callable[..., Any]] = {
    "np.gradient(v, PLACES)": lambda v: np.gradient(v, PLACES),
    "windows of v": lambda v: np.lib.stride_tricks.sliding_window_view(v, 2),
    "windows of x": lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3)),
    "windows along an axis": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=0),
    "np.add.accumulate(x)": np.add.accumulate,
    "np.multiply.accumulate(x, axis=1)": lambda x: np.multiply.accumulate(x, axis=1),
    "m[np.tril_indices_from(m)]": lambda m: m[np.tril_indices_from(m)],
    "m[np.diag_indices_from(m)]": lambda m: m[np.diag_indices_from(m)],
}


@pytest.mark.parametrize("line", ONLY_NUMPY)
def test_a_line_that_is_linear_or_a_product_has_numpys_value(line: str) -> None:
    function = ONLY_NUMPY[line]
    code = getattr(function, "__code__", None)
    name = code.co_varnames[0] if code else "x"
    built = function(gw.parameter(name, ARRAYS[name].shape))
    expected = function(ARRAYS[name])
    assert built.shape == expected.shape
    found = referred([gw.sum(built), built], {name: ARRAYS[name]}).values[1]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_sums_by_groups_of_an_input() -> None:
    with gw.connect("local") as client:
        value, slopes = client.value_and_grad(lambda v, g: np.sum(np.bincount(g, v, minlength=3) ** 2))(
            ARRAYS["v"], g=GROUPS
        )
    sums = np.bincount(GROUPS, ARRAYS["v"], minlength=3)
    np.testing.assert_allclose(value, np.sum(sums**2), rtol=1e-14)
    np.testing.assert_allclose(slopes, 2 * sums[GROUPS], rtol=1e-14)


def test_the_second_derivative_of_sinc_at_0() -> None:
    x = gw.parameter("x")
    bent = gw.gradient(gw.gradient(gw.mul(np.sinc(x), 1), x), x)
    for at in (0.0, 1e-3):
        np.testing.assert_allclose(referred([bent * 1.0], {"x": at}).values[0], -(np.pi**2) / 3, rtol=1e-5)
