"""More of NumPy: what people type now and then, with NumPy's values and the slopes of finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from tests.unit.sdk.referring import referred
from tests.unit.sdk.test_numpy import ARRAYS, GRID

HOLES = np.where(GRID, 0.5 * ARRAYS["y"], np.nan)
EDGES = np.array([0.0, 0.5, 1.5])
ROWS, COLS = np.array([0, 2, 1, 0]), np.array([3, 1, -1, 0])

LINES: dict[str, Callable[..., Any]] = {
    # Masks, which are booleans in NumPy.
    "x * ((x > 0) + (y > 0))": lambda x, y: x * ((x > 0) + (y > 0)),
    "x * ((x > 0) * (y > 0) + (x < -1))": lambda x, y: x * ((x > 0) * (y > 0) + (x < -1)),
    "x * ((x > 0) + GRID)": lambda x: x * ((x > 0) + GRID),
    "x * ((x > 0)[1] + (x[0] > 0))": lambda x: x * ((x > 0)[1] + (x[0] > 0)),
    "x * (0 + (x > 0) + (y > 0))": lambda x, y: x * (0 + (x > 0) + (y > 0)),
    "x * (1 - (x > 0))": lambda x: x * (1 - (x > 0)),
    "x * ((x > 0).astype(float) + (y > 0))": lambda x, y: x * ((x > 0).astype(float) + (y > 0)),
    "x * (x > 0).astype(int)": lambda x: x * (x > 0).astype(int),
    "x * ((x > 0) ^ (y > 0))": lambda x, y: x * ((x > 0) ^ (y > 0)),
    "x * ~((x > 0) | GRID)": lambda x: x * ~((x > 0) | GRID),
    "x * x.astype(bool)": lambda x: x * x.astype(bool),
    "x * np.any(x > 1, axis=1, keepdims=True)": lambda x: x * np.any(x > 1, axis=1, keepdims=True),
    "x * (x > -1).all(axis=0)": lambda x: x * (x > -1).all(axis=0),
    "np.any(x[:0] > 0) + np.all(x[:0] > 0) + x": lambda x: np.any(x[:0] > 0) + np.all(x[:0] > 0) + x,
    "x * (np.isfinite(x) & ~np.isinf(x))": lambda x: x * (np.isfinite(x) & ~np.isinf(x)),
    "x * np.logical_xor(x > 0, True)": lambda x: x * np.logical_xor(x > 0, True),
    "np.count_nonzero(x > 0) * x": lambda x: np.count_nonzero(x > 0) * x,
    # Reductions.
    "np.std(x, ddof=1) + x.var(0, ddof=1)": lambda x: np.std(x, ddof=1) + x.var(0, ddof=1),
    "np.sum(x, axis=0, where=GRID)": lambda x: np.sum(x, axis=0, where=GRID),
    "np.sum(x, where=x > 0)": lambda x: np.sum(x, where=x > 0),
    "x.mean(where=GRID) + x.prod(where=GRID)": lambda x: x.mean(where=GRID) + x.prod(where=GRID),
    "np.std(x, where=GRID)": lambda x: np.std(x, where=GRID),
    "np.max(x, 0, where=GRID, initial=-9)": lambda x: np.max(x, 0, where=GRID, initial=-9),
    "x.min(1, initial=0) + np.max(x[:0], initial=2)": lambda x: x.min(1, initial=0) + np.max(x[:0], initial=2),
    "np.sum(x, initial=3, dtype=float)": lambda x: np.sum(x, initial=3, dtype=float),
    "np.average(x, axis=0, weights=[1, 2, 3])": lambda x: np.average(x, axis=0, weights=[1, 2, 3]),
    "np.average(x, weights=p)": lambda x, p: np.average(x, weights=p),
    "np.ptp(x, axis=1)": lambda x: np.ptp(x, axis=1),
    "np.nansum(x * HOLES) + np.nanmean(x, 0)": lambda x: np.nansum(x * HOLES) + np.nanmean(x, 0),
    "np.nan_to_num(HOLES * x)": lambda x: np.nan_to_num(HOLES * x),
    "np.add.reduce(x) + np.maximum.reduce(x)": lambda x: np.add.reduce(x) + np.maximum.reduce(x),
    "np.logaddexp.reduce(x, axis=1)": lambda x: np.logaddexp.reduce(x, axis=1),
    "-np.subtract.outer(v, s)": lambda v, s: -np.subtract.outer(v, s),
    "-np.multiply.outer(v, x)": lambda v, x: -np.multiply.outer(v, x),
    "np.cumprod(x, axis=1)": lambda x: np.cumprod(x, axis=1),
    "np.linalg.norm(x, 3, axis=1)": lambda x: np.linalg.norm(x, 3, axis=1),
    "np.trapezoid(x, EDGES, axis=0)": lambda x: np.trapezoid(x, EDGES, axis=0),
    "np.trapezoid(v, dx=0.5)": lambda v: np.trapezoid(v, dx=0.5),
    # Functions.
    "2**x + 0.9**y": lambda x, y: 2**x + 0.9**y,
    "np.arctan(x) + np.arctan2(y, x)": lambda x, y: np.arctan(x) + np.arctan2(y, x),
    "np.arcsin(p - 1) + np.arccos(p - 1)": lambda p: np.arcsin(p - 1) + np.arccos(p - 1),
    "np.arcsinh(x) + np.arccosh(p + 1)": lambda x, p: np.arcsinh(x) + np.arccosh(p + 1),
    "np.arctanh(p - 1) + np.cbrt(x)": lambda p, x: np.arctanh(p - 1) + np.cbrt(x),
    "np.deg2rad(x) + np.degrees(y)": lambda x, y: np.deg2rad(x) + np.degrees(y),
    "np.copysign(x, y) + np.heaviside(x, 0.5) * y": lambda x, y: np.copysign(x, y) + np.heaviside(x, 0.5) * y,
    "np.fmax(x, HOLES) + np.fmin(HOLES, y)": lambda x, y: np.fmax(x, HOLES) + np.fmin(HOLES, y),
    "np.interp(x, EDGES, v[:3])": lambda x, v: np.interp(x, EDGES, v[:3]),
    "-np.polyval(v, x)": lambda v, x: -np.polyval(v, x),
    "-np.logaddexp2(x, y)": lambda x, y: -np.logaddexp2(x, y),
    # Products.
    "np.kron(x, m[:2])": lambda x, m: np.kron(x, m[:2]),
    "np.kron(v, x) * 2": lambda v, x: np.kron(v, x) * 2,
    "np.cross(x[:, :3], y[:, 1:])": lambda x, y: np.cross(x[:, :3], y[:, 1:]),
    "np.convolve(v, x[0, :2]) @ np.ones(5)": lambda v, x: np.convolve(v, x[0, :2]) @ np.ones(5),
    "np.convolve(x[0, :3], v, 'same')": lambda x, v: np.convolve(x[0, :3], v, "same"),
    "np.linalg.multi_dot([x, m, v])": lambda x, m, v: np.linalg.multi_dot([x, m, v]),
    "np.linalg.matrix_power(m, 3)": lambda m: np.linalg.matrix_power(m, 3),
    "np.vecdot(x, y) + np.linalg.vector_norm(x)": lambda x, y: np.vecdot(x, y) + np.linalg.vector_norm(x),
    "-np.linalg.matrix_norm(t)": lambda t: -np.linalg.matrix_norm(t),
    "np.einsum('ij,j->i', x, v, optimize=True)": lambda x, v: np.einsum("ij,j->i", x, v, optimize=True),
    # Shapes.
    "np.take_along_axis(x, COLS[:3, None], 1)": lambda x: np.take_along_axis(x, COLS[:3, None], 1),
    "np.select([x > 1, x > 0], [x, y], 2)": lambda x, y: np.select([x > 1, x > 0], [x, y], 2),
    "np.column_stack([v, x.T])": lambda v, x: np.column_stack([v, x.T]),
    "np.dstack([x, y])": lambda x, y: np.dstack([x, y]),
    "np.atleast_2d(v) + np.atleast_1d(s)": lambda v, s: np.atleast_2d(v) + np.atleast_1d(s),
    "-np.atleast_3d(x)": lambda x: -np.atleast_3d(x),
    "np.array_split(v, 3)[0]": lambda v: np.array_split(v, 3)[0],
    "np.hsplit(x, 2)[1] + np.vsplit(x, 3)[0][:, :2]": lambda x: np.hsplit(x, 2)[1] + np.vsplit(x, 3)[0][:, :2],
    "np.diag(v, -1) + np.diag(np.diag(m), 1)": lambda v, m: np.diag(v, -1) + np.diag(np.diag(m), 1),
    "np.meshgrid(v, x[0, :2])[1]": lambda v, x: np.meshgrid(v, x[0, :2])[1],
    "np.meshgrid(v, x[0, :2], indexing='ij')[0]": lambda v, x: np.meshgrid(v, x[0, :2], indexing="ij")[0],
    "np.append(v, 2.0) + np.append(s, v)": lambda v, s: np.append(v, 2.0) + np.append(s, v),
    "np.delete(x, 1, axis=1)": lambda x: np.delete(x, 1, axis=1),
    "np.rot90(x) @ np.rot90(x, -1).T": lambda x: np.rot90(x) @ np.rot90(x, -1).T,
    "np.rot90(m, 2)": lambda m: np.rot90(m, 2),
    "np.fliplr(x) + np.flipud(x)": lambda x: np.fliplr(x) + np.flipud(x),
    "np.rollaxis(t, 2)": lambda t: np.rollaxis(t, 2),
    "np.broadcast_arrays(v, x)[0]": lambda v, x: np.broadcast_arrays(v, x)[0],
    "x.mT @ x.copy() + m.trace() + m.diagonal()": lambda x, m: x.mT @ x.copy() + m.trace() + m.diagonal(),
    "v.repeat(2)": lambda v: v.repeat(2),
    "np.linalg.diagonal(t, offset=1)": lambda t: np.linalg.diagonal(t, offset=1),
}

LATER: dict[str, Callable[..., Any]] = {
    "np.unstack(x, axis=1)[2]": lambda x: np.unstack(x, axis=1)[2],
    "np.cumulative_sum(x, axis=1, include_initial=True)": lambda x: np.cumulative_sum(x, axis=1, include_initial=True),
    "-np.cumulative_prod(v)": lambda v: -np.cumulative_prod(v),
    "np.matvec(t, v) + np.vecmat(v, t.mT)": lambda t, v: np.matvec(t, v) + np.vecmat(v, t.mT),
    "np.astype(x > 0, float) * x": lambda x: np.astype(x > 0, float) * x,
}
"""What came after NumPy 2.0."""


@pytest.mark.parametrize(
    "line", [*LINES, *(line for line in LATER if hasattr(np, line.lstrip("-")[3:].partition("(")[0]))]
)
def test_a_line_has_numpys_value_and_its_slopes(line: str) -> None:
    function: Callable[..., Any] = (LINES | LATER)[line]
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    arrays = {name: ARRAYS[name] for name in names}
    parameters = [gw.parameter(name, ARRAYS[name].shape) for name in names]
    built = function(*parameters)
    expected: Any = np.asarray(function(*arrays.values()), np.float64)
    assert built.shape == expected.shape
    weights = np.linspace(1, 2, expected.size).reshape(expected.shape)
    direction = {name: np.cos(np.arange(array.size)).reshape(array.shape) for name, array in arrays.items()}
    (_, value), gradients = referred([gw.sum(built * weights), built], arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-14)
    step = 1e-6
    ahead, behind = (
        np.sum(function(*(arrays[name] + way * direction[name] for name in names)) * weights) for way in (step, -step)
    )
    slope = sum(np.sum(gradients.get(name, 0) * direction[name]) for name in names)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


PAIRED: dict[str, Callable[..., Any]] = {
    "x[i, j]": lambda x, t, i, j: x[i, j],
    "x[i[:, None], j]": lambda x, t, i, j: x[ROWS[:, None], j],
    "x[i, COLS]": lambda x, t, i, j: x[i, COLS],
    "t[1, i, j]": lambda x, t, i, j: t[1, i, j],
    "t[:, i, j]": lambda x, t, i, j: t[:, i, j],
    "t[i // 2, :, j]": lambda x, t, i, j: t[ROWS // 2, :, j],
    "x[[[0], [2]], j]": lambda x, t, i, j: x[np.array([[0], [2]]), j],
    "x[0, j]": lambda x, t, i, j: x[0, j],
    "t[[1], i, j]": lambda x, t, i, j: t[np.array([1]), i, j],
}


@pytest.mark.parametrize("line", PAIRED)
def test_entries_by_several_arrays_of_which_some_are_inputs(line: str) -> None:
    function = PAIRED[line]
    x, t = ARRAYS["x"], ARRAYS["t"]
    rows, columns = (gw.input(name, 4, dtype="int64") for name in "ij")
    built = function(gw.parameter("x", x.shape), gw.parameter("t", t.shape), rows, columns)
    expected = function(x, t, ROWS, COLS)
    assert built.shape == expected.shape
    weights = np.linspace(1, 2, expected.size).reshape(expected.shape)
    answer = referred([gw.sum(built * weights), built], {"x": x, "t": t, "i": ROWS, "j": COLS})
    np.testing.assert_array_equal(answer.values[1], expected)
    # What is picked is linear: the gradient is where the weights come from.
    for name, array in (("x", x), ("t", t)):
        ones = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ones[place] = 1
            picked = function(ones if name == "x" else 0 * x, ones if name == "t" else 0 * t, ROWS, COLS)
            found = np.sum(answer.gradients.get(name, np.zeros_like(array))[place])
            np.testing.assert_allclose(found, np.sum(picked * weights), rtol=1e-14)
            ones[place] = 0


def test_one_entry_for_each_example() -> None:
    table = gw.parameter("table", (3, 4))
    row, column = (gw.input(name, per_example=True, dtype="int64") for name in ("row", "column"))
    with gw.connect("local") as client:
        value, grads = client.value_and_grad(table[row, column], reduction="sum")(
            table=ARRAYS["x"], row=ROWS, column=COLS
        )
    assert value == ARRAYS["x"][ROWS, COLS].sum()
    assert grads["table"].sum() == 4
