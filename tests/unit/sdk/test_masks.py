"""Masks are NumPy's booleans: each function makes of them what NumPy does, a mask where that is of booleans."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from gradwire._expressions.tables import FUNCTIONS, UFUNCS
from tests.unit.sdk.referring import referred

RANDOM = np.random.default_rng(5)
X, Y = RANDOM.normal(size=(2, 3, 3))
GRID = np.array([[True, False, True], [False, False, True], [True, True, False]])
SIDE = np.array([[True], [False], [True]])
PICKS = np.array([2, 0, 2])
SQUARE = RANDOM.normal(size=(3, 3))

Line = Callable[[Any, Any], Any]
"""Of two masks."""
Lines = Mapping[Any, Line]

ALONE: Lines = {
    **{
        function: lambda m, n, function=function: function(m)  # type: ignore[misc]
        for function in (
            *(np.absolute, np.exp, np.exp2, np.expm1, np.fabs, np.log1p, np.sqrt, np.square, np.sin, np.cos, np.tan),
            *(np.sinh, np.cosh, np.tanh, np.arcsin, np.arccos, np.arctan, np.arcsinh, np.cbrt, np.deg2rad, np.rad2deg),
            *(np.degrees, np.radians, np.isnan, np.isinf, np.isfinite, np.logical_not, np.invert, np.conjugate),
            *(np.amax, np.amin, np.max, np.min, np.sum, np.mean, np.std, np.var, np.prod, np.all, np.any, np.cumsum),
            *(np.cumprod, np.copy, np.diag, np.diagonal, np.diff, np.fliplr, np.flipud, np.flip, np.linalg.norm),
            *(np.linalg.trace, np.linalg.diagonal, np.linalg.matrix_norm, np.linalg.matrix_transpose),
            *(np.linalg.vector_norm, np.matrix_transpose, np.nan_to_num, np.nanmean, np.nanprod, np.nanstd, np.nansum),
            *(np.nanvar, np.ravel, np.real, np.real_if_close, np.rot90, np.squeeze, np.trace, np.transpose, np.tril),
            *(np.triu, np.trapezoid, np.count_nonzero, np.average, np.atleast_1d, np.atleast_2d, np.atleast_3d),
        )
    },
    np.arccosh: lambda m, n: np.arccosh(1.0 + m),
    np.log: lambda m, n: np.log(1.0 + m),
    np.log2: lambda m, n: np.log2(1.0 + m),
    np.log10: lambda m, n: np.log10(1.0 + m),
    np.arctanh: lambda m, n: np.arctanh(0.5 * m),
    np.reciprocal: lambda m, n: np.reciprocal(1.0 + m),
    np.broadcast_to: lambda m, n: np.broadcast_to(m[0], (2, 3)),
    np.expand_dims: lambda m, n: np.expand_dims(m, 1),
    np.moveaxis: lambda m, n: np.moveaxis(m, 0, 1),
    np.swapaxes: lambda m, n: np.swapaxes(m, 0, 1),
    np.rollaxis: lambda m, n: np.rollaxis(m, 1),
    np.pad: lambda m, n: np.pad(m, ((1, 0), (0, 2)), constant_values=3),
    np.repeat: lambda m, n: np.repeat(m, 2, axis=1),
    np.reshape: lambda m, n: np.reshape(m, -1),
    np.roll: lambda m, n: np.roll(m, 1),
    np.take: lambda m, n: np.take(m, PICKS, axis=1),
    np.take_along_axis: lambda m, n: np.take_along_axis(m, PICKS[:, None], 1),
    np.tile: lambda m, n: np.tile(m, (1, 2)),
    np.split: lambda m, n: np.split(m, 3)[1],
    np.hsplit: lambda m, n: np.hsplit(m, 3)[1],
    np.vsplit: lambda m, n: np.vsplit(m, 3)[1],
    np.dsplit: lambda m, n: np.dsplit(np.atleast_3d(m), [1])[0],
    np.array_split: lambda m, n: np.array_split(m, 2)[1],
    np.delete: lambda m, n: np.delete(m, 1, axis=0),
    np.clip: lambda m, n: np.clip(m, 0, 1),
    np.interp: lambda m, n: np.interp(m, [0.0, 2.0], [1.0, 2.0]),
    np.linalg.matrix_power: lambda m, n: np.linalg.matrix_power(m, 3),
    np.apply_along_axis: lambda m, n: np.apply_along_axis(lambda r: r[:2], 1, m),
    np.bincount: lambda m, n: np.bincount(PICKS, weights=m[0]),
    np.compress: lambda m, n: np.compress(GRID[0], m, axis=1),
    np.cov: lambda m, n: np.cov(m),
    np.corrcoef: lambda m, n: np.corrcoef(1.0 * m + X),
    np.diagflat: lambda m, n: np.diagflat(m[:2, :2]),
    np.nancumsum: lambda m, n: np.nancumsum(m, axis=1),
    np.resize: lambda m, n: np.resize(m, (4, 4)),
    np.sinc: lambda m, n: np.sinc(0.5 * m),
    np.vander: lambda m, n: np.vander(m[0]),
    np.linspace: lambda m, n: np.linspace(m, 2.0, 3),
    np.lib.stride_tricks.sliding_window_view: lambda m, n: np.lib.stride_tricks.sliding_window_view(m, 2, 0),
    np.polyval: lambda m, n: np.polyval(m[0], n[1]),
}

BOTH: Lines = {
    **{
        function: lambda m, n, function=function: function(m, n)  # type: ignore[misc]
        for function in (
            *(np.add, np.multiply, np.maximum, np.minimum, np.fmax, np.fmin, np.matmul, np.logaddexp, np.logaddexp2),
            *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.logical_and),
            *(np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.arctan2, np.hypot),
            *(np.copysign, np.heaviside, np.vecdot, np.dot, np.inner, np.outer, np.vdot, np.tensordot, np.kron),
            *(np.append, np.linalg.matmul, np.linalg.tensordot, np.linalg.vecdot),
        )
    },
    np.divide: lambda m, n: np.divide(m, 1.0 + n),
    np.power: lambda m, n: np.power(m, 2.0),
    np.float_power: lambda m, n: np.float_power(m, 2),
    np.linalg.multi_dot: lambda m, n: np.linalg.multi_dot([m, n, m]),
    np.linalg.outer: lambda m, n: np.linalg.outer(m[0], n[0]),
    np.einsum: lambda m, n: np.einsum("ij,jk->ik", m, n),
    np.block: lambda m, n: np.block([[m], [n]]),
    np.insert: lambda m, n: np.insert(m, 1, n[0], axis=0),
    np.correlate: lambda m, n: np.correlate(m[0], n[1]),
    np.concatenate: lambda m, n: np.concatenate([m, n]),
    np.stack: lambda m, n: np.stack([m, n]),
    np.hstack: lambda m, n: np.hstack([m, n]),
    np.vstack: lambda m, n: np.vstack([m[0], n]),
    np.dstack: lambda m, n: np.dstack([m, n]),
    np.column_stack: lambda m, n: np.column_stack([m[0], n]),
    np.convolve: lambda m, n: np.convolve(m[0], n[1]),
    np.select: lambda m, n: np.select([m], [n], False),
    np.where: lambda m, n: np.where(m, n, ~n),
    np.meshgrid: lambda m, n: np.meshgrid(m[0], n[0])[1],
    np.broadcast_arrays: lambda m, n: np.broadcast_arrays(m[0], n)[0],
    **{
        getattr(np, name): made
        for name, made in {
            "matvec": lambda m, n: np.matvec(m, n[0]),
            "vecmat": lambda m, n: np.vecmat(m[0], n),
            "astype": lambda m, n: np.astype(m, float) + n,
            "cumulative_sum": lambda m, n: np.cumulative_sum(m, axis=0),
            "cumulative_prod": lambda m, n: np.cumulative_prod(m, axis=0),
            "unstack": lambda m, n: np.unstack(m)[1],
        }.items()
        if hasattr(np, name)
    },
}

REFUSED = {np.subtract, np.negative, np.positive, np.sign, np.ptp, np.cross, np.linalg.cross, np.gradient, np.ediff1d}
"""What NumPy refuses of booleans, and has no meaning to follow."""

MORE: Lines = {
    "m + n": lambda m, n: m + n,
    "m * n": lambda m, n: m * n,
    "m + 1": lambda m, n: m + 1,
    "m * 2": lambda m, n: m * 2,
    "True + m": lambda m, n: True + m,
    "m @ n": lambda m, n: m @ n,
    "m.dot(n[0])": lambda m, n: m.dot(n[0]),
    "m[0] @ n[0]": lambda m, n: m[0] @ n[0],
    "m @ X": lambda m, n: m @ X,
    "np.dot(m, GRID)": lambda m, n: np.dot(m, GRID),
    "np.dot(m[0, 0], n)": lambda m, n: np.dot(m[0, 0], n),
    "np.dot(a=m, b=n)": lambda m, n: np.dot(a=m, b=n),
    "np.dot(m, 1.0 * n)": lambda m, n: np.dot(m, 1.0 * n),
    "abs(m)": lambda m, n: abs(m),
    "m ** 2": lambda m, n: m**2,
    "m / 2": lambda m, n: m / 2,
    "m & n | ~m ^ n": lambda m, n: m & n | ~m ^ n,
    "m & 1 == 1": lambda m, n: m & True,
    "m[1:, ::2]": lambda m, n: m[1:, ::2],
    "m[PICKS, PICKS]": lambda m, n: m[PICKS, PICKS],
    "m[GRID]": lambda m, n: m[GRID],
    "m.T.mT": lambda m, n: m.T.mT[:2],
    "m.any(0) + n.all(1)": lambda m, n: m.any(0) + n.all(1),
    "m.max(0) + n.min(0)": lambda m, n: m.max(0) + n.min(0),
    "np.max(m, 0, initial=2)": lambda m, n: np.max(m, 0, initial=2),
    "np.min(m, 0, initial=False)": lambda m, n: np.min(m, 0, initial=False),
    "np.min(m, 0, where=SIDE, initial=True)": lambda m, n: np.min(m, 0, where=SIDE, initial=True),
    "np.max(m, 0, where=SIDE, initial=0)": lambda m, n: np.max(m, 0, where=SIDE, initial=0),
    "np.sum(m, axis=()) + np.sum(n, axis=())": lambda m, n: np.sum(m, axis=()) + np.sum(n, axis=()),
    "m[0, 0].sum() + n[0, 0].sum()": lambda m, n: m[0, 0].sum() + n[0, 0].sum(),
    "m.prod(0) + n.prod(0)": lambda m, n: m.prod(0) + n.prod(0),
    "m[0, 0].prod() + n[0, 0].prod()": lambda m, n: m[0, 0].prod() + n[0, 0].prod(),
    "m.cumsum(0) + n.cumsum(0)": lambda m, n: m.cumsum(0) + n.cumsum(0),
    "m.sum(dtype=int) + m.sum(dtype=np.float32)": lambda m, n: m.sum(dtype=int) + m.sum(dtype=np.float32),
    "np.add(m, n, dtype=float)": lambda m, n: np.add(m, n, dtype=float),
    "np.concatenate([m, n], dtype=float) + m[0]": lambda m, n: np.concatenate([m, n], dtype=float) + m[0],
    "np.einsum('ij,ij->i', m, n)": lambda m, n: np.einsum("ij,ij->i", m, n),
    "np.einsum('ij->j', m)": lambda m, n: np.einsum("ij->j", m),
    "np.einsum('ii', m)": lambda m, n: np.einsum("ii", m),
    "np.einsum('ij->ji', m)": lambda m, n: np.einsum("ij->ji", m),
    "np.einsum('ij,j->i', m, X[0])": lambda m, n: np.einsum("ij,j->i", m, X[0]),
    "np.tensordot(m, n, ([0], [1]))": lambda m, n: np.tensordot(m, n, ([0], [1])),
    "np.add.reduce(m)": lambda m, n: np.add.reduce(m),
    "np.maximum.reduce(m)": lambda m, n: np.maximum.reduce(m),
    "np.minimum.reduce(m)": lambda m, n: np.minimum.reduce(m),
    "np.bitwise_or.reduce(m)": lambda m, n: np.bitwise_or.reduce(m),
    "np.logical_and.reduce(m)": lambda m, n: np.logical_and.reduce(m),
    "np.multiply.outer(m, n)": np.multiply.outer,
    "np.pad(m, 1, 'edge')": lambda m, n: np.pad(m, 1, "edge"),
    "np.clip(m, False, True)": lambda m, n: np.clip(m, False, True),
    "np.where(m, n, 0)": lambda m, n: np.where(m, n, 0),
    "np.where(m, n, False)": lambda m, n: np.where(m, n, False),
    "np.stack([m, GRID])": lambda m, n: np.stack([m, GRID]),
    "np.stack([m, X])": lambda m, n: np.stack([m, X]),
    "np.zeros_like(m) + m": lambda m, n: np.zeros_like(m) + m,
    "np.ones_like(m) + m": lambda m, n: np.ones_like(m) + m,
    "np.full_like(m, 3) + m": lambda m, n: np.full_like(m, 3) + m,
    "np.full_like(m, 3, dtype=float) + m": lambda m, n: np.full_like(m, 3, dtype=float) + m,
    "np.ones_like(X, dtype=bool) + m": lambda m, n: np.ones_like(X, dtype=bool) + m,
    "np.linalg.norm(m, np.inf, axis=0) + 1": lambda m, n: np.linalg.norm(m, np.inf, axis=0) + m[0],
    "np.linalg.matrix_power(m, 0)": lambda m, n: np.linalg.matrix_power(m, 0),
    "np.trapezoid(1.0 * m) + 0": lambda m, n: np.trapezoid(1.0 * m),
    "m.astype(int) + n.astype(float)": lambda m, n: m.astype(int) + n.astype(float),
    "(m + 0.0).astype(bool)": lambda m, n: (m + 0.0).astype(bool),
    "m == n": lambda m, n: m == n,
    "m != True": lambda m, n: m != True,  # noqa: E712  (an array)
    "m.copy() + m.flatten().reshape(3, 3)": lambda m, n: m.copy() + m.flatten().reshape(3, 3),
    "copy.deepcopy(m) + n": lambda m, n: copy.deepcopy(m) + n,
    "pickle.loads(pickle.dumps(m)) + n": lambda m, n: pickle.loads(pickle.dumps(m)) + n,  # noqa: S301  (our own)
}

LINES: Lines = {**ALONE, **BOTH, **MORE}


def _called(function: Any) -> str:
    return f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}"


def test_every_function_is_here() -> None:
    missing = {*UFUNCS, *FUNCTIONS} - {*ALONE, *BOTH} - REFUSED
    assert not missing


@pytest.mark.parametrize("line", LINES, ids=[own if isinstance(own, str) else _called(own) for own in LINES])
def test_of_masks_there_is_what_numpy_has_of_booleans(line: Any) -> None:
    function = LINES[line]
    expected = np.asarray(function(X > 0, Y > 0))
    x, y = gw.parameter("x", (3, 3)), gw.parameter("y", (3, 3))
    built = function(x > 0, y > 0)
    assert built.shape == expected.shape
    assert built.is_mask == (expected.dtype == bool)
    found = referred([gw.sum(1.0 * built), built], {"x": X, "y": Y}).values[1]
    # NumPy has functions of booleans in its half floats.
    np.testing.assert_allclose(found, expected.astype(float), rtol=2e-3)


@pytest.mark.parametrize("made", [gw.constant(GRID), gw.input("m", (3, 3), dtype=bool)], ids=["constant", "input"])
def test_a_mask_is_one_after_copies_and_names(made: gw.Expression) -> None:
    copies = [copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))]  # noqa: S301  (our own)
    assert all(own.is_mask for own in copies)
    assert (made + made).named("both").is_mask
    assert gw.constant(GRID).named("grid").is_mask


def test_gws_own_functions_count() -> None:
    x = gw.parameter("x", (3, 3))
    m, n, a, b = x > 0, x < 1, X > 0, X < 1
    counted = [
        (gw.add(m, n), a.astype(int) + b),
        (gw.subtract(m, n), a.astype(int) - b),
        (gw.negative(m), -a.astype(int)),
        (gw.matmul(m, n), a.astype(int) @ b),
        (gw.dot(m, n), a.astype(int) @ b),
        (gw.inner(m, n), np.inner(a.astype(int), b)),
        (gw.tensordot(m, n), np.tensordot(a.astype(int), b)),
        (gw.einsum("ij,jk", m, n), a.astype(int) @ b),
    ]
    values = referred([gw.sum(x), *(own for own, _ in counted)], {"x": X}).values[1:]
    for (own, expected), found in zip(counted, values, strict=True):
        assert not own.is_mask
        np.testing.assert_array_equal(found, expected)


def test_arguments_that_are_booleans_are_masks() -> None:
    def loss(w: Any, m: Any, n: Any) -> Any:
        return np.sum(w * (m + n)) + np.sum(m @ n) + m.astype(int).sum() + np.sum(w[~m[0]])

    with gw.connect("local") as client, pytest.raises(gw.ValueNeededError, match="indexed by"):
        client.value_and_grad(loss)(X, m=GRID, n=GRID.T)

    def whole(w: Any, m: Any, n: Any) -> Any:
        return np.sum(w * (m + n)) + np.sum(m @ n) + m.astype(int).sum()

    with gw.connect("local") as client:
        step = client.value_and_grad(whole)
        value, slope = step(X, m=GRID, n=GRID.T)
        np.testing.assert_allclose(value, whole(X, GRID, GRID.T))
        np.testing.assert_array_equal(slope, GRID | GRID.T)
        # As numbers they count.
        assert step(X, m=X > 0, n=SQUARE)[0] == pytest.approx(
            np.sum(X * ((X > 0) + SQUARE)) + np.sum((X > 0) @ SQUARE) + np.sum(X > 0)
        )


WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: -(x > 0), "~a is where it does not hold, 0 - a counts"),
    (lambda x: (x > 0) - (x > 1), r"a \^ b is where one of both holds, a & ~b where only the first does"),
    (lambda x: np.negative(x > 0), "~a is where it does not hold"),
    (lambda x: (x > 0) & 2, "and & and | are for masks"),
    (lambda x: x.astype(int), "expressions are floats"),
    (lambda x: x.sum(dtype=int), "sum with dtype=<class 'int'>: expressions are floats"),
    (lambda x: np.sum(x, dtype=complex), "np.sum with dtype=<class 'complex'>: expressions are floats"),
    (lambda x: np.concatenate([x, x], dtype="int64"), "np.concatenate with dtype='int64': expressions are floats"),
    (lambda x: np.sum(x, dtype="float23"), "np.sum with dtype='float23': expressions are floats"),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=range(len(WRONG)))
def test_what_has_no_meaning_is_refused(make: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(gw.InvalidGraphError, match=words):
        make(gw.parameter("x", (3, 3)))
