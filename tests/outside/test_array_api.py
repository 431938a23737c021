"""The array API standard: each function of arrays gives NumPy's result or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest

import gradwire as gw
from tests.unit.sdk.referring import referred

RANDOM = np.random.default_rng(8)
A, B = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(3, 4))
P, S = RANDOM.random((3, 4)) / 2 + 0.25, RANDOM.normal(size=(3, 3))


def words(text: str) -> list[str]:
    return text.split()


UNARY = words("""
    abs acos asin asinh atan atanh ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log log10 log1p log2
    logical_not negative positive real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc
""")
BINARY = words("""
    add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal logaddexp logical_and
    logical_or logical_xor maximum minimum multiply nextafter not_equal remainder subtract
""")
TAKES_NO_ARRAY = {
    *words("""
        arange asarray broadcast_shapes can_cast empty eye finfo from_dlpack full iinfo isdtype linspace ones
        result_type zeros fft.fftfreq fft.rfftfreq
    """)
}
"""What makes arrays of numbers, or is about dtypes; an expression has none."""

LINALG = words("""
    cholesky det diagonal eigh eigvalsh inv matrix_norm matrix_rank matrix_transpose pinv qr slogdet svd svdvals trace
    vector_norm
""")

Call = Callable[..., Any]
CALLS: dict[str, tuple[Call, Any]] = {
    **{name: (getattr(np, name), (P,)) for name in UNARY},
    **{name: (getattr(np, name), (A, B)) for name in BINARY},
    "acosh": (np.acosh, (1 + P,)),
    "pow": (lambda x: np.pow(x, 3), (A,)),
    "clip": (lambda x, y: np.clip(x, y, 1), (A, B)),
    "where": (lambda x, y: np.where(x > 0, x, y), (A, B)),
    "bitwise_and": (lambda x, y: np.bitwise_and(x > 0, y > 0), (A, B)),
    "bitwise_or": (lambda x, y: np.bitwise_or(x > 0, y > 0), (A, B)),
    "bitwise_xor": (lambda x, y: np.bitwise_xor(x > 0, y > 0), (A, B)),
    "bitwise_invert": (lambda x: np.bitwise_invert(x > 0), (A,)),
    "bitwise_left_shift": (np.bitwise_left_shift, (A, B)),
    "bitwise_right_shift": (np.bitwise_right_shift, (A, B)),
    "all": (lambda x: np.all(x > -1, axis=0), (A,)),
    "any": (lambda x: np.any(x > 1, axis=(0, 1), keepdims=True), (A,)),
    "astype": (lambda x: np.astype(x, np.float64, copy=False), (A,)),
    "broadcast_arrays": (lambda x, y: np.broadcast_arrays(x[:1], y[:, :1]), (A, B)),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), (A,)),
    "concat": (lambda x, y: np.concat([x, y], axis=-1), (A, B)),
    "count_nonzero": (lambda x: np.count_nonzero(x > 0, axis=1), (A,)),
    "cumulative_sum": (lambda x: np.cumulative_sum(x, axis=1, include_initial=True), (A,)),
    "cumulative_prod": (lambda x: np.cumulative_prod(x, axis=0), (A,)),
    "diff": (lambda x: np.diff(x, axis=0, n=2), (A,)),
    "empty_like": (lambda x: 0 * np.empty_like(x), (A,)),
    "expand_dims": (lambda x: np.expand_dims(x, axis=1), (A,)),
    "flip": (lambda x: np.flip(x, axis=(0, -1)), (A,)),
    "full_like": (lambda x: np.full_like(x, 2.5), (A,)),
    "matmul": (lambda x, y: np.matmul(x, y.mT), (A, B)),
    "matrix_transpose": (np.matrix_transpose, (A,)),
    "meshgrid": (lambda x, y: np.meshgrid(x[0], y[:, 0], indexing="ij"), (A, B)),
    "moveaxis": (lambda x: np.moveaxis(x, 0, -1), (A,)),
    "ones_like": (np.ones_like, (A,)),
    "zeros_like": (np.zeros_like, (A,)),
    "permute_dims": (lambda x: np.permute_dims(x, (1, 0)), (A,)),
    "repeat": (lambda x: np.repeat(x, 2, axis=0), (A,)),
    "reshape": (lambda x: np.reshape(x, (2, -1)), (A,)),
    "roll": (lambda x: np.roll(x, (1, -2), axis=(0, 1)), (A,)),
    "squeeze": (lambda x: np.squeeze(x[:, :1], axis=1), (A,)),
    "stack": (lambda x, y: np.stack([x, y], axis=1), (A, B)),
    "take": (lambda x: np.take(x, np.array([2, 0]), axis=1), (A,)),
    "take_along_axis": (lambda x: np.take_along_axis(x, np.array([[1], [0], [3]]), axis=1), (A,)),
    "tensordot": (lambda x, y: np.tensordot(x, y, axes=((0,), (0,))), (A, B)),
    "tile": (lambda x: np.tile(x, (2, 1)), (A,)),
    "tril": (lambda x: np.tril(x, k=-1), (S,)),
    "triu": (lambda x: np.triu(x, k=1), (S,)),
    "unstack": (lambda x: np.unstack(x, axis=1), (A,)),
    "vecdot": (np.vecdot, (A, B)),
    "max": (lambda x: np.max(x, axis=1, keepdims=True), (A,)),
    "mean": (lambda x: np.mean(x, axis=1, keepdims=True), (A,)),
    "min": (lambda x: np.min(x, axis=1, keepdims=True), (A,)),
    "prod": (lambda x: np.prod(x, axis=(0, 1)), (A,)),
    "sum": (lambda x: np.sum(x, axis=(0, 1)), (A,)),
    "std": (lambda x: np.std(x, axis=0, correction=1.0), (A,)),
    "var": (lambda x: np.var(x, axis=1, correction=1.0, keepdims=True), (A,)),
    **{name: (getattr(np, name), (A,)) for name in ("argmax", "argmin", "argsort", "nonzero", "sort")},
    "isin": (lambda x: np.isin(x, [1.0, 2.0]), (A,)),
    "searchsorted": (lambda x: np.searchsorted(x, 0.5), (A[0],)),
    **{name: (getattr(np, name), (A,)) for name in dir(np) if name.startswith("unique_")},
    **{
        f"linalg.{name}": (getattr(np.linalg, name), (S,))
        for name in LINALG
    },
    "linalg.cross": (lambda x, y: np.linalg.cross(x[:, :3], y[:, :3]), (A, B)),
    "linalg.matmul": (np.linalg.matmul, (S, A)),
    "linalg.matrix_power": (lambda x: np.linalg.matrix_power(x, 3), (S,)),
    "linalg.outer": (lambda x, y: np.linalg.outer(x[0], y[1]), (A, B)),
    "linalg.solve": (np.linalg.solve, (S, A)),
    "linalg.tensordot": (lambda x, y: np.linalg.tensordot(x, y, axes=2), (A, B)),
    "linalg.vecdot": (np.linalg.vecdot, (A, B)),
    **{f"fft.{name}": (getattr(np.fft, name), (A,)) for name in array_api_strict.fft.__all__ if "freq" not in name},
}  # fmt: skip

REFUSED = {
    *words("ceil floor floor_divide nextafter remainder round signbit trunc bitwise_left_shift bitwise_right_shift"),
    *words(
        "argmax argmin argsort isin nonzero searchsorted sort unique_all unique_counts unique_inverse unique_values"
    ),
    *(f"linalg.{name}" for name in LINALG[:2] + LINALG[3:6] + LINALG[7:8] + LINALG[9:14]),
    "linalg.solve",
    *(name for name in CALLS if name.startswith("fft.")),
}


def test_the_table_has_every_function_of_the_standard() -> None:
    own = [getattr(array_api_strict, name) for name in array_api_strict.__all__]
    names = {f.__name__ for f in own if callable(f) and not isinstance(f, type) and "flags" not in f.__name__}
    names |= {f"linalg.{name}" for name in array_api_strict.linalg.__all__}
    names |= {f"fft.{name}" for name in array_api_strict.fft.__all__}
    assert {*CALLS} | TAKES_NO_ARRAY == names - {"__array_namespace_info__"}
    assert (len(CALLS) - len(REFUSED), len(REFUSED)) == (110, 45)


@pytest.mark.parametrize("name", CALLS)
def test_a_function_gives_numpys_result_or_is_refused_by_name(name: str) -> None:
    call, arrays = CALLS[name]
    sources = {f"s{place}": array for place, array in enumerate(arrays)}
    parameters = [gw.parameter(own, array.shape) for own, array in sources.items()]
    if name in REFUSED:
        _, _, bare = name.rpartition(".")
        called = getattr(np.linalg if "linalg" in name else np.fft if "fft" in name else np, bare).__name__
        with pytest.raises(gw.InvalidGraphError, match=rf"np\.(\w+\.)?{called} .*(: |; )\w+"):
            call(*parameters)
        return
    expected, built = call(*arrays), call(*parameters)
    pairs = zip(built, expected, strict=True) if isinstance(expected, tuple | list) else [(built, expected)]
    for node, array in pairs:
        assert node.shape == np.shape(array)
        shown = referred([gw.constant(0.0), gw.add(node, 0.0)], sources).values[1]
        np.testing.assert_allclose(shown, np.asarray(array, np.float64), rtol=1e-13, atol=1e-15)
