"""Elementary functions in compiled loops: errors, edges, bits and vectors."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf, workprec
from numba import njit
from numba.core.errors import TypingError

from gradwire_server.engine.machine import functions
from gradwire_server.engine.machine.error_function import erf
from gradwire_server.engine.machine.trigonometric import cos, sin

INF, NAN = np.inf, np.nan
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def loop(function: Callable[[float], float]) -> Any:
    """A kernel as the engine has them, with the function in its innermost loop."""

    @njit(error_model="numpy", nogil=True)
    def kernel(operands: Floats, out: Floats) -> None:
        for i in range(operands.size):
            out[i] = function(operands[i])

    return kernel


KERNELS = {
    function.__name__: loop(function)
    for function in (
        functions.exp,
        functions.expm1,
        functions.log,
        functions.log1p,
        functions.sigmoid,
        functions.tanh,
        functions.softplus,
        erf,
        sin,
        cos,
    )
}

EXACT: dict[str, Callable[[Any], Any]] = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "erf": mp.erf,
    "sin": mp.sin,
    "cos": mp.cos,
}
"""By mpmath, in as many bits as asked for."""

NEAR_MULTIPLES = {
    np.float64: (6381956970095103 * 2.0**797, 6411027962775774 * 2.0**-47, 7763785107565477 * 2.0**-29, 1e22, 1e300),
    np.float32: (16367173 * 2.0**72, 10741887 * 2.0**11, 16573937 * 2.0**-16, 1e22),
}
"""The first three are nearer to multiples of pi / 2 than almost all numbers of the type, by continued fractions."""

each_function = pytest.mark.parametrize("name", KERNELS)
each_type = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def apply(name: str, operands: Any, dtype: Any) -> Floats:
    operands = np.asarray(operands, dtype)
    out = np.empty_like(operands)
    KERNELS[name](operands, out)
    return out


def any_bits(count: int, dtype: Any) -> Floats:
    """Numbers of all sizes, from subnormal to infinite, and NaN: any bits."""
    unsigned = np.uint64 if dtype is np.float64 else np.uint32
    bits = np.random.default_rng(1).integers(np.iinfo(unsigned).max, size=count, dtype=unsigned, endpoint=True)
    return bits.view(dtype)


def operands_of(name: str, dtype: Any) -> Floats:
    """Finite numbers of the domain, most of them where the function is neither constant nor linear."""
    rng = np.random.default_rng(2)
    limits = np.finfo(dtype)
    underflow, overflow = float(np.log(limits.smallest_subnormal)) - 2, float(np.log(limits.max)) + 1
    sizes = any_bits(500, dtype)
    parts = [
        sizes[np.isfinite(sizes)],
        *(sign * np.exp2(rng.uniform(-60, 0, 300)) for sign in (1, -1)),  # where 1 + x loses digits of x
        rng.uniform(-1, 0, 200),
        rng.normal(0, 1, 1500),
        rng.normal(0, 8, 500),
        rng.uniform(underflow, overflow, 300),
        rng.uniform(underflow, underflow + 40, 200),  # results of exp are subnormal
        rng.uniform(-1, 1, 100) * limits.smallest_normal,
        NEAR_MULTIPLES[dtype],
        rng.integers(1, 2**20, 200) * (np.pi / 4),
        *(2.0**power * (1 + np.arange(-2, 3) * limits.eps) for power in range(-47, 120, 16)),
        *(
            edge + np.arange(-20, 20) * np.spacing(dtype(edge))
            for edge in (underflow + 1.3, underflow + 2, overflow - 1)
        ),
        *(
            edge * (1 + np.arange(-20, 20) * limits.eps)
            for edge in (-1.03972077, -0.34657359, -0.29289322, 0.34657359, 0.41421356)
        ),
        *(
            edge * (1 + np.arange(-20, 20) * limits.eps)
            for edge in (0.625, 0.70710678, 0.88137359, 1, 1.03972077, 2**0.5, 1.82842712)
        ),
    ]
    x = np.concatenate(parts).astype(dtype)
    domain = {"log": np.abs(x[x != 0]), "log1p": np.where(x < -1, -x, x)[x != -1]}
    return domain.get(name, x)


def ulps(result: Any, exact: Any, dtype: Any) -> float:
    """How far a result is from an exact value, in units of the last place where that is."""
    limits = np.finfo(dtype)
    # For an infinite result its place is that of the next number after the largest one.
    place = min(max(mp.frexp(exact)[1], limits.minexp + 1), limits.maxexp) - limits.nmant - 1
    value = mpf(float(result)) if np.isfinite(result) else mp.sign(float(result)) * mpf(2) ** limits.maxexp
    overflows = abs(exact) > mpf(2) ** limits.maxexp
    return 0.0 if overflows and np.isinf(result) else float(abs(mp.ldexp(value - exact, -place)))


@each_function
@each_type
def test_errors_are_within_2_ulp_everywhere(name: str, dtype: Any) -> None:
    operands = operands_of(name, dtype)
    results = apply(name, operands, dtype)
    with workprec(160):
        errors = [ulps(y, EXACT[name](mpf(float(x))), dtype) for x, y in zip(operands, results, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= 2, (operands[worst], results[worst])


EDGES = {
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (800, INF), (-800, 0.0)],
    "log": [(0.0, -INF), (-0.0, -INF), (1, 0.0), (INF, INF), (-1, NAN), (-1e-45, NAN), (-INF, NAN)],
    "expm1": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (INF, INF),
        (-INF, -1),
        (800, INF),
        (-800, -1),
        (1e-45, 1e-45),
        (-1e-45, -1e-45),
    ],
    "log1p": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (-1, -INF),
        (INF, INF),
        (-1.5, NAN),
        (-INF, NAN),
        (1e-45, 1e-45),
        (-1e-45, -1e-45),
    ],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0.0), (40, 1), (1e38, 1), (-1e38, 0.0)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (20, 1), (-20, -1), (1e-45, 1e-45), (-1e-45, -1e-45)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e38, 1), (-6, -1)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-45, 1e-45), (-1e-45, -1e-45)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (1e-45, 1), (-1e-45, 1)],
    "softplus": [(INF, INF), (-INF, 0.0), (40, 40), (1e38, 1e38), (-1e38, 0.0)],
}


@each_function
@each_type
def test_edges(name: str, dtype: Any) -> None:
    operands, expected = np.array(EDGES[name], dtype).T
    results = apply(name, np.ascontiguousarray(operands), dtype)
    np.testing.assert_array_equal(results, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(results[numbers]), np.signbit(expected[numbers]))


@each_function
@each_type
def test_nan_stays_nan_whatever_its_bits(name: str, dtype: Any) -> None:
    infinities = np.array([[INF], [-INF]], dtype).view(f"u{dtype().itemsize}")
    payloads = np.array([1, 2, 0x7FF, 0x1000, 0x3FFFFF, 0x400000, 0x7FFFFF], infinities.dtype)
    nans = (infinities | payloads).ravel().view(dtype)
    assert np.isnan(nans).all()
    assert np.isnan(apply(name, nans, dtype)).all()


@each_function
@each_type
def test_place_and_stride_do_not_change_bits(name: str, dtype: Any) -> None:
    operands = np.abs(np.random.default_rng(3).normal(0, 8, 77)).astype(dtype)
    together = apply(name, operands, dtype)
    alone = np.concatenate([apply(name, operands[i : i + 1], dtype) for i in range(operands.size)])
    assert together.tobytes() == alone.tobytes()
    cuts = [0, 1, 4, 11, 26, 57, 77]
    parts = np.concatenate([apply(name, operands[start:end], dtype) for start, end in pairwise(cuts)])
    assert together.tobytes() == parts.tobytes()
    apart, out = np.repeat(operands, 3)[::-3], np.zeros(2 * operands.size, dtype)[::2]
    KERNELS[name](apart, out)
    assert together[::-1].tobytes() == out.tobytes()


BITS = {
    ("sin", np.float64): "8030b777ed8fe4fd",
    ("sin", np.float32): "a726346899e6d49b",
    ("cos", np.float64): "21fd1e5d1236c020",
    ("cos", np.float32): "c2d5cf18727e490f",
    ("erf", np.float64): "36c0f90aa07603bc",
    ("erf", np.float32): "6e5a4ed87c837768",
    ("expm1", np.float64): "5664d8699e39995d",
    ("expm1", np.float32): "2ed6a80f7a141118",
    ("log1p", np.float64): "4f03aa431672dfea",
    ("log1p", np.float32): "b5de9acfb7461662",
    ("exp", np.float64): "2204661d04848895",
    ("exp", np.float32): "3ae382cc57ea214b",
    ("log", np.float64): "70e0d1f14ddb38d4",
    ("log", np.float32): "6cb55325f6d653a9",
    ("sigmoid", np.float64): "f733dae2e9cba22e",
    ("sigmoid", np.float32): "6ab8be321c1ff26e",
    ("tanh", np.float64): "4bd7394c40ed83e6",
    ("tanh", np.float32): "b6aa2ce04ee26876",
    ("softplus", np.float64): "8b1a162227c3770f",
    ("softplus", np.float32): "21d0d4c542dcd585",
}
"""Digests of results, from a machine with AVX-512; without vectors and fused multiply-adds they are the same."""


@each_function
@each_type
def test_every_machine_gives_the_same_bits(name: str, dtype: Any) -> None:
    results = apply(name, np.concatenate([any_bits(2000, dtype), (np.arange(-1440, 1440) / 16).astype(dtype)]), dtype)
    results[np.isnan(results)] = NAN
    assert sha256(results.tobytes()).hexdigest()[:16] == BITS[name, dtype]


@each_function
@each_type
def test_loops_are_vectors(name: str, dtype: Any) -> None:
    apply(name, [1], dtype)
    signature = next(s for s in KERNELS[name].signatures if s[0].dtype.name == dtype.__name__ and s[0].layout == "C")
    code = KERNELS[name].inspect_llvm(signature)
    assert re.search(r"call <\d+ x (double|float)> @llvm\.fma", code)
    called = re.findall(r" call .*?\b(?:double|float)>? @(\w+\.\w+)", code)
    assert set(called) <= {"llvm.fma", "llvm.fabs", "llvm.copysign", "llvm.masked"}


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(TypingError, match="of float64 and float32, not of int64"):
        functions.exp(1)
