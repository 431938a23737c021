"""Functions of JAX with arguments, for the tests of ``gw.from_jax``: the first argument is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

RANDOM = np.random.default_rng(7)
V, W = RANDOM.normal(size=5), RANDOM.normal(size=5)
UNIT = RANDOM.uniform(0.05, 0.95, size=5) * np.sign(V)
ABOVE = 1 + np.abs(V)
M, N = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(4, 2))
T = RANDOM.normal(size=(2, 3, 4))
IMAGE, KERNEL = RANDOM.normal(size=(2, 4, 7, 6)), RANDOM.normal(size=(6, 2, 3, 2))
PLACES = np.array([[0, 2], [2, -1]])

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{
        name: (getattr(jnp, name), (V,))
        for name in (
            "abs", "arctan", "arcsinh", "cbrt", "cos", "cosh", "exp", "exp2", "expm1", "negative", "sign", "sin",
            "sinh", "square", "tan", "tanh", "sum", "mean", "var", "std", "max", "min", "prod", "cumsum", "cumprod",
            "flip", "diff", "ravel", "isfinite", "ptp", "sinc",
        )
    },
    **{name: (getattr(jnp, name), (UNIT,)) for name in ("arcsin", "arccos", "arctanh", "log1p")},
    **{name: (getattr(jnp, name), (ABOVE,)) for name in ("arccosh", "log", "log2", "log10", "sqrt", "reciprocal")},
    **{
        name: (getattr(jnp, name), (V, W))
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "arctan2", "hypot", "logaddexp")
    },
    **{
        name: (getattr(jax.nn, name), (V,))
        for name in (
            "relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "sigmoid", "softplus", "log_sigmoid", "soft_sign",
            "softmax", "log_softmax", "logsumexp", "leaky_relu", "hard_tanh", "hard_sigmoid", "hard_swish", "mish",
            "squareplus", "standardize",
        )
    },
    "rsqrt": (lax.rsqrt, (ABOVE,)),
    "erf": (lax.erf, (V,)),
    "erfc": (lax.erfc, (V,)),
    "power of a number": (lambda x: x**2.5 + x**-3, (ABOVE,)),
    "power of numbers": (lambda x: x ** jnp.array([0.0, 1.0, 2.0, 3.0, -1.0]), (V,)),
    "power": (jnp.power, (ABOVE, W)),
    "number to the power": (lambda x: 2.0**x, (V,)),
    "clip": (lambda x: jnp.clip(x, -0.3, 0.4), (V,)),
    "where": (lambda x, y: jnp.where(x > y, x * y, y), (V, W)),
    "masks": (lambda x, y: jnp.where((x > 0) & ~(y < 0) | (x != y) ^ (x >= 2), x, 2 * y), (V, W)),
    "select_n": (lambda x: lax.select_n(np.arange(5) % 3, x, 2 * x, x * x), (V,)),
    "polynomial": (lambda x: jnp.polyval(jnp.array([1.0, -2.0, 3.0]), x), (V,)),
    "stable softmax": (lambda x: jax.nn.softmax(x - lax.stop_gradient(x.max())) + jax.nn.logsumexp(x), (V,)),
    "stop_gradient": (lambda x: x * lax.stop_gradient(jnp.exp(x)), (V,)),
    "stopped maximum": (lambda x: x - lax.stop_gradient(x.max()), (V,)),
    "stopped in a loop": (lambda x: lax.fori_loop(0, 2, lambda i, c: c * lax.stop_gradient(c), x), (V,)),
    "straight through": (lambda x: jnp.tanh(x + lax.stop_gradient((x > 0) - x)), (V,)),
    "stopped mask and index": (lambda x, m: jnp.where(lax.stop_gradient(x > 0), x, m[lax.stop_gradient(2), 1]), (V, M)),
    "matmul": (jnp.matmul, (M, N)),
    "matvec": (lambda a, x: a @ x[:4], (M, W)),
    "dot": (jnp.dot, (V, W)),
    "outer": (jnp.outer, (V, W)),
    "batched matmul": (lambda t, n: t @ n, (T, N)),
    "tensordot": (lambda t, m: jnp.tensordot(t, m, ((1, 2), (0, 1))), (T, M)),
    "einsum": (lambda t, m: jnp.einsum("bij,ij->bi", t, m), (T, M)),
    "trace": (jnp.trace, (M,)),
    "tril": (jnp.tril, (M,)),
    "norm": (jnp.linalg.norm, (V,)),
    "broadcast and sum": (lambda x: jnp.sum(jnp.broadcast_to(x, (3, 5)), axis=1), (V,)),
    "outer sum": (lambda x, y: jnp.max(x[:, None] + y, axis=0), (V, W)),
    "transpose": (lambda t: jnp.transpose(t, (2, 0, 1)).reshape(4, -1), (T,)),
    "swapaxes": (lambda t: jnp.swapaxes(t, 0, 2)[:, ::-1], (T,)),
    "slices": (lambda t: t[:, 1:, ::2] * t[0, -1, 1], (T,)),
    "rows": (lambda m: m[np.array([2, 0, 2])], (M,)),
    "pairs": (lambda m: m[PLACES, np.array([1, 3])], (M,)),
    "middle axis": (lambda t: t[:, PLACES, 1:], (T,)),
    "outside": (lambda x: x.at[np.array([1, 9])].get(mode="fill", fill_value=3.0), (V,)),
    "mask": (lambda x: x[np.array([True, False, True, True, False])], (V,)),
    "take_along_axis": (lambda m: jnp.take_along_axis(m, np.array([[1], [3], [0]]), 1), (M,)),
    "clipped places": (lambda x: jnp.take(x, np.array([-7, -1, 0, 4, 9]), mode="clip"), (V,)),
    "wrapped places": (lambda x: jnp.take(x, np.array([-7, -1, 0, 4, 9]), mode="wrap"), (V,)),
    "clipped get": (lambda m: m.at[np.array([-9, -1, 8]), 1].get(mode="clip"), (M,)),
    "clipped add": (lambda x: x.at[np.array([-9, -1, 8])].add(x[:3] ** 2, mode="clip"), (V,)),
    "clipped slice": (lambda m: lax.dynamic_slice(m, (-1, 9), (2, 2)) * lax.dynamic_slice(m, (-9, -2), (2, 2)), (M,)),
    "set": (lambda x, y: x.at[1:3].set(y[:2]).at[0].set(7.0), (V, W)),
    "set twice": (lambda x, y: x.at[np.array([1, 3, 1])].set(y[:3]), (V, W)),
    "add at": (lambda m, x: m.at[np.array([0, 2, 0]), 1].add(x[:3]), (M, V)),
    "add rows": (lambda m: jnp.ones_like(m).at[np.array([0, 2, 0])].add(m), (M,)),
    "multiply at": (lambda x, y: x.at[np.array([4, 0])].multiply(y[:2], unique_indices=True), (V, W)),
    "dynamic_slice": (lambda m: lax.dynamic_slice(m, (1, 9), (2, 2)), (M,)),
    "dynamic_update_slice": (lambda m, n: lax.dynamic_update_slice(m, n[:2], (1, 1)), (M, N)),
    "pad": (lambda m: lax.pad(m, 2.0, [(1, -1, 0), (0, 2, 1)]), (M,)),
    "pad by value": (lambda m, x: lax.pad(m, x[0], [(1, 0, 0), (0, 2, 0)]), (M, V)),
    "stack": (lambda x, y: jnp.stack([x, y], 1), (V, W)),
    "concatenate": (lambda x, y: jnp.concatenate([x, y[:2], jnp.ones(2)]), (V, W)),
    "split": (lambda x: jnp.split(x, [1, 4])[1], (V,)),
    "roll": (lambda x: jnp.roll(x, 2), (V,)),
    "repeat": (lambda x: jnp.repeat(x, 3), (V,)),
    "tile": (lambda x: jnp.tile(x, (2, 2)), (V,)),
    "cumulative": (lambda m: lax.cummax(m, 1) + lax.cummin(m, 0) + lax.cumlogsumexp(m, 1), (M,)),
    "cumsum reversed": (lambda m: lax.cumsum(m, 1, reverse=True), (M,)),
    "conv": (
        lambda x, k: lax.conv_general_dilated(
            x, k, (2, 1), [(1, 2), (0, -1)], lhs_dilation=(1, 2), rhs_dilation=(2, 1), feature_group_count=2
        ),
        (IMAGE, KERNEL),
    ),
    "conv of images with channels last": (
        lambda x, k: lax.conv_general_dilated(
            x[:, :2].transpose(0, 2, 3, 1), k.transpose(2, 3, 1, 0), (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        (IMAGE, KERNEL),
    ),
    "conv transposed": (
        lambda x, k: lax.conv_transpose(x[:, :2], k, (2, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")),
        (IMAGE, KERNEL),
    ),
    "max_pool": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 1), "SAME"), (IMAGE,),
    ),
    "sum_pool": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 3, 2), (1, 1, 1, 2), "VALID"), (IMAGE,)),
    "fori_loop": (lambda x: lax.fori_loop(0, 4, lambda i, total: total * jnp.sin(x[i]) + i, x[0]), (V,)),
    "scan": (lambda x, y: lax.scan(lambda c, r: (c * r[0] + r[1], c), x[0], (x, y)), (V, W)),
    "scan backwards": (lambda x: lax.scan(lambda c, r: (c + r, c * r), 0.0, x, reverse=True)[1], (V,)),
    "cond on a number": (lambda x: lax.cond(np.bool_(True), jnp.sin, jnp.cos, x), (V,)),
    "cond": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (V,)),
    "switch": (lambda x: lax.switch(2, [jnp.sin, jnp.cos, jnp.tanh], x), (V,)),
    "checkpoint": (jax.checkpoint(lambda y: jnp.sin(y * y)), (V,)),
    "vmap": (lambda m, x: jax.vmap(lambda row: jnp.dot(row, x[:4]))(m), (M, V)),
    "vmap of rows": (lambda m: jax.vmap(lambda row, i: row[i])(m, np.array([3, 0, 1])), (M,)),
    "gradient of a function": (jax.grad(lambda y: jnp.sum(jnp.tanh(y) ** 3)), (V,)),
    "constant": (lambda x: jnp.sum(jnp.arange(3.0)) + 0 * x[0], (V,)),
}  # fmt: skip
