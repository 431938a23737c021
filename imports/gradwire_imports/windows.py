"""Convolutions and windows in all the forms that frameworks give them, as one ``take`` and one product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression


class Window(NamedTuple):
    """A window that moves along axes of space, with one number of each kind for each of them."""

    sizes: Sequence[int]
    strides: Sequence[int]
    pads: Sequence[tuple[int, int]]
    """Elements added before and after; negative ones are taken away."""
    dilations: Sequence[int]
    """Distance of two elements of a window."""
    spacings: Sequence[int]
    """Distance of two elements of the operand, with additions between."""

    def places(self, space: Sequence[int]) -> tuple[tuple[int, ...], NDArray[np.int64]]:
        """How many windows there are along each axis; and (window, windows): the place of each element, -1 beside."""
        counts = []
        index = np.zeros((1, 1), np.int64)
        for size, width, stride, (before, after), dilation, spacing in zip(space, *self, strict=True):
            spread = (size - 1) * spacing + 1 if size else 0
            count = max(0, (spread + before + after - ((width - 1) * dilation + 1)) // stride + 1)
            along = np.arange(width)[:, None] * dilation + stride * np.arange(count) - before
            inside = (along >= 0) & (along < spread) & (along % spacing == 0)
            along = np.where(inside, along // spacing, -1)
            both = index[:, None, :, None] * size + along[None, :, None, :]
            gone = (index[:, None, :, None] < 0) | (along[None, :, None, :] < 0)
            index = np.where(gone, -1, both).reshape(index.shape[0] * width, index.shape[1] * count)
            counts.append(count)
        return tuple(counts), index


def patches(node: Expression, window: Window, beside: float) -> tuple[Expression, tuple[int, ...]]:
    """The elements of all windows of the last axes, (*leading, window, windows); and how many along each."""
    rank = len(window.sizes)
    leading, space = node.shape[: node.ndim - rank], node.shape[node.ndim - rank :]
    counts, index = window.places(space)
    flat = gw.reshape(node, (*leading, math.prod(space)))
    if (index < 0).any():
        flat = gw.concatenate([flat, np.full((*leading, 1), beside)], -1)
    return gw.take(flat, index, -1), counts


def convolution(x: Expression, kernel: Expression, window: Window, groups: int = 1) -> Expression:
    """Cross-correlation of (batch, channels, *space) with (outputs, channels / groups, *window)."""
    found, counts = patches(x, window, 0.0)
    batch, channels, outputs = x.shape[0], x.shape[1], kernel.shape[0]
    depth, width, count = channels // groups, math.prod(window.sizes), math.prod(counts)
    columns = gw.reshape(found, (batch, groups, depth * width, count))
    rows = gw.reshape(kernel, (groups, outputs // groups, depth * width))
    return gw.reshape(gw.matmul(rows, columns), (batch, outputs, *counts))


def flipped(kernel: Expression, rank: int) -> Expression:
    """A kernel backwards along its last axes."""
    return gw.flip(kernel, tuple(range(kernel.ndim - rank, kernel.ndim)))
