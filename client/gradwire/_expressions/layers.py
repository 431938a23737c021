"""Layers of networks, for one example or with leading axes, composed of matrix products and ``take``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradwire._errors import InvalidGraphError
from gradwire._expressions.arranging import pad, swapaxes
from gradwire._expressions.composed import softmax, sqrt, var
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import add, divide, matmul, mean, mul, reshape, subtract, take, where
from gradwire._expressions.primitives import max as max_over
from gradwire._expressions.shapes import Axis, integers
from gradwire._numbers import real

Sizes = int | Sequence[int]


def conv(x: Operand, kernel: Operand, *, stride: Sizes = 1, padding: Sizes = 0) -> Expression:
    """Cross-correlation with kernels, which networks call convolution, along any number of axes.

    Args:
        x: Of shape ``(*leading, channels, *space)``.
        kernel: Of shape ``(outputs, channels, *window)``; its window has the axes that space has.
        stride: Distance of two windows, for all axes or for each.
        padding: Zeros before and after each axis of space, for all axes or for each.

    Returns:
        Of shape ``(*leading, outputs, *places)``.
    """
    node, kernels = as_expression(x), as_expression(kernel)
    rank = kernels.ndim - 2
    if rank < 1 or node.ndim < rank + 1 or node.shape[-rank - 1] != kernels.shape[1]:
        raise InvalidGraphError(
            f"conv of {node!r} with {kernels!r}; expected (channels, *space) and (outputs, channels, *window)"
        )
    patches, places = _windows("conv", node, kernels.shape[2:], stride, padding, 0)
    count = kernels.size // kernels.shape[0] if kernels.shape[0] else 0
    rows = reshape(patches, (*node.shape[: -rank - 1], count, math.prod(places)))
    product = matmul(reshape(kernels, (kernels.shape[0], count)), rows)
    return reshape(product, (*product.shape[:-1], *places))


def max_pool(x: Operand, window: Sizes, *, stride: Sizes | None = None, padding: Sizes = 0) -> Expression:
    """Largest element of each window of the last axes; ties as for ``gw.max``.

    Args:
        x: Of shape ``(*leading, *space)``.
        window: Its size along each axis of space.
        stride: Distance of two windows. Default: their size.
        padding: As for ``conv``; it is never the largest.
    """
    return _pooled("max_pool", x, window, stride, padding, -math.inf)


def avg_pool(x: Operand, window: Sizes, *, stride: Sizes | None = None, padding: Sizes = 0) -> Expression:
    """Mean of each window of the last axes, zeros of the padding counted; arguments as for ``max_pool``."""
    return _pooled("avg_pool", x, window, stride, padding, 0)


def layer_norm(
    x: Operand, scale: Operand = 1.0, bias: Operand = 0.0, *, axis: Axis = -1, epsilon: float = 1e-5
) -> Expression:
    """(x - mean) / sqrt(var + epsilon) over axes, times scale, plus bias (Ba et al. 2016)."""
    node, small = as_expression(x), real(epsilon)
    if small is None or not small >= 0:
        raise InvalidGraphError(f"layer_norm with epsilon={epsilon!r:.64}; expected a number, at least 0")
    normal = divide(subtract(node, mean(node, axis, keepdims=True)), sqrt(add(var(node, axis, keepdims=True), small)))
    return add(mul(normal, scale), bias)


def attention(query: Operand, key: Operand, value: Operand, mask: Operand | None = None) -> Expression:
    """softmax(query key^T / sqrt(d)) value, the scaled dot-product attention (Vaswani et al. 2017).

    Args:
        query: Of shape ``(..., T, d)``.
        key: Of shape ``(..., S, d)``.
        value: Of shape ``(..., S, e)``.
        mask: Of a shape that broadcasts to ``(..., T, S)``: 0 where a query does not see a key, such as ``np.tri(T)``.
            A query that sees none gets 0.
    """
    queries, keys = as_expression(query), as_expression(key)
    if queries.ndim < 2 or keys.ndim < 2:
        raise InvalidGraphError(f"attention of {queries!r} and {keys!r}; expected matrices, or stacks of them")
    scores = mul(matmul(queries, swapaxes(keys, -1, -2)), 1 / math.sqrt(max(1, queries.shape[-1])))
    if mask is not None:
        scores = where(mask, scores, -math.inf)
    return matmul(softmax(scores, -1), value)


def _pooled(called: str, x: Operand, window: Sizes, stride: Sizes | None, padding: Sizes, beside: float) -> Expression:
    node, sizes = as_expression(x), integers(window)
    if not sizes or len(sizes) > node.ndim:
        raise InvalidGraphError(f"{called} of {node!r} with window={window!r:.64}; give its size along the last axes")
    patches, places = _windows(called, node, tuple(sizes), sizes if stride is None else stride, padding, beside)
    over = max_over(patches, -2) if called == "max_pool" else mean(patches, -2)
    return reshape(over, (*over.shape[:-1], *places))


def _windows(
    called: str, node: Expression, window: tuple[int, ...], stride: Sizes, padding: Sizes, beside: float
) -> tuple[Expression, tuple[int, ...]]:
    """The elements of all windows of the last axes, ``(*leading, window, places)``; and how many places along each."""
    rank = len(window)
    steps, margins = (_for_each(called, name, own, rank) for name, own in (("stride", stride), ("padding", padding)))
    if any(margins):
        node = pad(node, [(0, 0)] * (node.ndim - rank) + [(margin, margin) for margin in margins], beside)
    leading, space = node.shape[: node.ndim - rank], node.shape[node.ndim - rank :]
    if (
        min(steps, default=1) < 1
        or min(window, default=1) < 1
        or any(w > n for w, n in zip(window, space, strict=True))
    ):
        raise InvalidGraphError(f"{called} of {node!r}: windows {window} in steps of {tuple(steps)} do not fit {space}")
    places = tuple((n - w) // step + 1 for n, w, step in zip(space, window, steps, strict=True))
    index: NDArray[np.int64] = np.zeros((1, 1), np.int64)
    for n, w, step, count in zip(space, window, steps, places, strict=True):
        along = np.arange(w)[:, np.newaxis] + step * np.arange(count)
        index = (index[:, np.newaxis, :, np.newaxis] * n + along[np.newaxis, :, np.newaxis, :]).reshape(
            index.shape[0] * w, index.shape[1] * count
        )
    return take(reshape(node, (*leading, math.prod(space))), index, -1), places


def _for_each(called: str, name: str, given: Sizes, rank: int) -> list[int]:
    own = integers(given)
    if own is not None and isinstance(given, int):
        own = own * rank
    if own is None or len(own) != rank or min(own, default=0) < 0:
        raise InvalidGraphError(f"{called} with {name}={given!r:.64}; give an integer, or one for each of {rank} axes")
    return own
