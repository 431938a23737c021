"""What the layers of ONNX are as expressions: products, convolutions, pools and normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression
from gradwire_imports.onnx_operand import Call
from gradwire_imports.values import Unsupported, Value
from gradwire_imports.windows import Window, convolution, flipped, patches


def gemm(call: Call, a: Value, b: Value, c: Value = None) -> Value:
    """alpha A B + beta C, of matrices that may be transposed."""
    left = gw.transpose(a) if call.get("transA", 0) else a
    right = gw.transpose(b) if call.get("transB", 0) else b
    product = gw.matmul(left, right)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    product = product if alpha == 1 else gw.mul(alpha, product)
    if c is None:
        return product
    return gw.add(product, c if beta == 1 else gw.mul(beta, c))


def _window(call: Call, space: tuple[int, ...], sizes: tuple[int, ...]) -> Window:
    """The windows of a node: their sizes, steps and pads."""
    rank = len(sizes)
    strides, dilations = (list(call.get(name) or [1] * rank) for name in ("strides", "dilations"))
    kind = call.get("auto_pad", "NOTSET")
    given = list(call.get("pads") or [0] * (2 * rank))
    pads = list(zip(given[:rank], given[rank:], strict=True))
    if kind == "VALID":
        pads = [(0, 0)] * rank
    if kind.startswith("SAME"):
        pads = []
        for size, width, stride, dilation in zip(space, sizes, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if kind == "SAME_UPPER" else (more, less))
    if call.get("ceil_mode", 0):
        for axis in range(rank):
            before, after = pads[axis]
            room = space[axis] + before + after - (sizes[axis] - 1) * dilations[axis] - 1
            rest = room % strides[axis]
            # A window that would begin beyond the operand is none.
            if rest and (room // strides[axis] + 1) * strides[axis] < space[axis] + before:
                pads[axis] = (before, after + strides[axis] - rest)
    return Window(sizes, strides, pads, dilations, [1] * rank)


def conv(call: Call, x: Value, kernel: Value, bias: Value = None) -> Value:
    """Convolution."""
    kernels = as_expression(kernel)
    found = convolution(as_expression(x), kernels, _window(call, x.shape[2:], kernels.shape[2:]), call.get("group", 1))
    return _biased(found, bias)


def _biased(found: Expression, bias: Value) -> Expression:
    if bias is None:
        return found
    return gw.add(found, gw.reshape(bias, (-1, *[1] * (found.ndim - 2))))


def conv_transpose(call: Call, x: Value, kernel: Value, bias: Value = None) -> Value:
    """The transpose of a convolution, as one of an operand that is spread out, with kernels backwards."""
    kernels, groups = as_expression(kernel), call.get("group", 1)
    rank = kernels.ndim - 2
    sizes = kernels.shape[2:]
    strides, dilations = (list(call.get(name) or [1] * rank) for name in ("strides", "dilations"))
    extra = list(call.get("output_padding") or [0] * rank)
    given = list(call.get("pads") or [0] * (2 * rank))
    pads = list(zip(given[:rank], given[rank:], strict=True))
    full = [
        stride * (size - 1) + more + (width - 1) * dilation + 1
        for stride, size, more, width, dilation in zip(strides, x.shape[2:], extra, sizes, dilations, strict=True)
    ]
    kind, wanted = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    if wanted or kind.startswith("SAME"):
        sought = list(wanted or [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)])[-rank:]
        totals = [size - own for size, own in zip(full, sought, strict=True)]
        halves = [int(total / 2) for total in totals]
        pads = [
            (total - half, half) if kind == "SAME_LOWER" else (half, total - half)
            for total, half in zip(totals, halves, strict=True)
        ]
    reach = [(width - 1) * dilation for width, dilation in zip(sizes, dilations, strict=True)]
    around = [(own - before, own - after + more) for own, (before, after), more in zip(reach, pads, extra, strict=True)]
    depth, outputs = kernels.shape[0] // groups, kernels.shape[1]
    turned = gw.reshape(flipped(kernels, rank), (groups, depth, outputs, *sizes))
    turned = gw.reshape(gw.swapaxes(turned, 1, 2), (groups * outputs, depth, *sizes))
    window = Window(sizes, [1] * rank, around, dilations, strides)
    return _biased(convolution(as_expression(x), turned, window, groups), bias)


def max_pool(call: Call, x: Value) -> Value:
    """The largest element of each window."""
    if call.results > 1:
        raise Unsupported("with places")
    window = _window(call, x.shape[2:], tuple(call.get("kernel_shape")))
    found, counts = patches(as_expression(x), window, -math.inf)
    return gw.reshape(gw.max(found, -2), (*x.shape[:2], *counts))


def average_pool(call: Call, x: Value) -> Value:
    """The mean of each window, of the elements that are there, or of its pads too."""
    sizes = tuple(call.get("kernel_shape"))
    window = _window(call, x.shape[2:], sizes)
    found, counts = patches(as_expression(x), window, 0.0)
    _, places = window.places(x.shape[2:])
    inside = np.asarray((places >= 0).sum(0))
    if call.get("count_include_pad", 0):
        given = call.get("pads") or [0] * (2 * len(sizes))
        rank = len(sizes)
        wide = tuple(
            size + before + after for size, before, after in zip(x.shape[2:], given[:rank], given[rank:], strict=True)
        )
        if call.get("auto_pad", "NOTSET") != "NOTSET":
            wide = tuple(size + sum(own) for size, own in zip(x.shape[2:], window.pads, strict=True))
            given = [own[0] for own in window.pads] * 2
        own = [
            (own[0] - before, own[1] - (total - size - before))
            for own, before, total, size in zip(window.pads, given[:rank], wide, x.shape[2:], strict=True)
        ]
        _, places = window._replace(pads=own).places(wide)
        inside = np.asarray((places >= 0).sum(0))
    return gw.reshape(gw.divide(gw.sum(found, -2), inside), (*x.shape[:2], *counts))


def lp_pool(call: Call, x: Value) -> Value:
    """The norm of each window."""
    order = call.get("p", 2)
    window = _window(call, x.shape[2:], tuple(call.get("kernel_shape")))
    found, counts = patches(gw.power(gw.abs(x), order), window, 0.0)
    return gw.reshape(gw.power(gw.sum(found, -2), 1 / order), (*x.shape[:2], *counts))


def _global(function: Callable[..., Expression]) -> Callable[..., Expression]:
    return lambda _, x: function(x, tuple(range(2, x.ndim)), keepdims=True)


def batch_normalization(call: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> Value:
    """(x - mean) / sqrt(variance + epsilon), times scale, plus bias, with statistics that are constants."""
    if call.get("training_mode", 0) or call.results > 1 or not call.get("spatial", 1):
        raise Unsupported("in training")
    shape = (-1, *[1] * (x.ndim - 2))
    constants = [
        own if isinstance(own, Expression) and own.kind != "parameter" else call.known(own, "statistics")
        for own in (mean, variance)
    ]
    middle, spread = (gw.reshape(own, shape) for own in constants)
    normal = gw.mul(gw.subtract(x, middle), gw.power(gw.add(spread, call.get("epsilon", 1e-5)), -0.5))
    return gw.add(gw.mul(normal, gw.reshape(scale, shape)), gw.reshape(bias, shape))


def _normal(x: Expression, axes: tuple[int, ...], epsilon: float) -> tuple[Expression, Expression, Expression]:
    middle = gw.mean(x, axes, keepdims=True)
    inverse = gw.power(gw.add(gw.var(x, axes, keepdims=True), epsilon), -0.5)
    return gw.mul(gw.subtract(x, middle), inverse), middle, inverse


def layer_normalization(call: Call, x: Value, scale: Value, bias: Value = None) -> Value:
    """Normalization over the last axes."""
    axis = call.get("axis", -1)
    axes = tuple(range(axis % x.ndim, x.ndim))
    normal, middle, inverse = _normal(as_expression(x), axes, call.get("epsilon", 1e-5))
    found = gw.mul(normal, scale)
    return [found if bias is None else gw.add(found, bias), middle, inverse]


def rms_normalization(call: Call, x: Value, scale: Value) -> Value:
    """x divided by the root of its mean square over the last axes, times scale."""
    axis = call.get("axis", -1)
    square = gw.mean(gw.square(x), tuple(range(axis % x.ndim, x.ndim)), keepdims=True)
    return gw.mul(x, gw.power(gw.add(square, call.get("epsilon", 1e-5)), -0.5), scale)


def instance_normalization(call: Call, x: Value, scale: Value, bias: Value) -> Value:
    """Normalization of each channel of each example."""
    normal, _, _ = _normal(as_expression(x), tuple(range(2, x.ndim)), call.get("epsilon", 1e-5))
    shape = (-1, *[1] * (x.ndim - 2))
    return gw.add(gw.mul(normal, gw.reshape(scale, shape)), gw.reshape(bias, shape))


def group_normalization(call: Call, x: Value, scale: Value, bias: Value) -> Value:
    """Normalization of groups of channels."""
    groups = call.get("num_groups")
    parts = gw.reshape(x, (x.shape[0], groups, -1))
    normal = gw.reshape(_normal(parts, (2,), call.get("epsilon", 1e-5))[0], x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    by, beside = as_expression(scale), as_expression(bias)
    if by.size != x.shape[1]:
        by, beside = (gw.repeat(own, x.shape[1] // groups) for own in (by, beside))
    return gw.add(gw.mul(normal, gw.reshape(by, shape)), gw.reshape(beside, shape))


def lp_normalization(call: Call, x: Value) -> Value:
    """x divided by its norm along an axis; of zeros 0."""
    size = gw.norm(x, call.get("p", 2), call.get("axis", -1), keepdims=True)
    return gw.divide(x, gw.where(size, size, 1))


def mean_variance_normalization(call: Call, x: Value) -> Value:
    """x less its mean, divided by its standard deviation."""
    axes = tuple(call.get("axes", [0, 2, 3]))
    spread = gw.std(x, axes, keepdims=True)
    return gw.divide(gw.subtract(x, gw.mean(x, axes, keepdims=True)), gw.add(spread, 1e-9))


def lrn(call: Call, x: Value) -> Value:
    """x divided by a power of the sum of squares of channels beside."""
    size = call.get("size")
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    places = np.arange(x.shape[1])
    band: Any = (places[None] >= places[:, None] - before) & (places[None] <= places[:, None] + after)
    flat = gw.reshape(gw.square(x), (*x.shape[:2], -1))
    total = gw.reshape(gw.matmul(band.astype(float), flat), x.shape)
    inner = gw.add(call.get("bias", 1.0), gw.mul(call.get("alpha", 1e-4) / size, total))
    return gw.mul(x, gw.power(inner, -call.get("beta", 0.75)))


RULES: dict[str, Callable[..., Value]] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "GlobalAveragePool": _global(gw.mean),
    "GlobalMaxPool": _global(gw.max),
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
