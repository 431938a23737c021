"""What each operator of ONNX is as an expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression
from gradwire_imports import elementwise, onnx_layers, onnx_places
from gradwire_imports.onnx_operand import Call
from gradwire_imports.values import Unsupported, Value, moved, places_of


def _plain(function: Callable[..., Value]) -> Callable[..., Value]:
    def rule(call: Call, *operands: Value) -> Value:
        if call.get("broadcast") or call.get("axis") is not None:
            raise Unsupported("with attributes of opset 6")
        return function(*operands)

    return rule


def _axes(call: Call, x: Expression, given: Value) -> tuple[int, ...]:
    """The axes that an operator reduces: all of them without a list, or none."""
    axes = call.integers(given, "axes") if given is not None else call.get("axes")
    if axes:
        return tuple(axes)
    return () if call.get("noop_with_empty_axes", 0) else tuple(range(x.ndim))


def _reduced(function: Callable[..., Expression]) -> Callable[..., Expression]:
    def rule(call: Call, x: Value, axes: Value = None) -> Expression:
        node = as_expression(x)
        return function(node, _axes(call, node, axes), keepdims=bool(call.get("keepdims", 1)))

    return rule


def _norm_1(x: Expression, axes: tuple[int, ...], *, keepdims: bool) -> Expression:
    return gw.sum(gw.abs(x), axes, keepdims=keepdims)


def _norm_2(x: Expression, axes: tuple[int, ...], *, keepdims: bool) -> Expression:
    return gw.norm(x, None, axes, keepdims=keepdims) if axes else gw.abs(x)


def _log_sum(x: Expression, axes: tuple[int, ...], *, keepdims: bool) -> Expression:
    return gw.log(gw.sum(x, axes, keepdims=keepdims))


def _square_sum(x: Expression, axes: tuple[int, ...], *, keepdims: bool) -> Expression:
    return gw.sum(gw.square(x), axes, keepdims=keepdims)


def _soft(function: Callable[..., Expression]) -> Callable[..., Expression]:
    """Along one axis; before opset 13 along all from one on."""

    def rule(call: Call, x: Value) -> Expression:
        axis = call.get("axis", -1 if call.opset >= 13 else 1)
        return function(x, axis if call.opset >= 13 else tuple(range(axis % x.ndim, x.ndim)))

    return rule


def clip(call: Call, x: Value, low: Value = None, high: Value = None) -> Value:
    """x between two numbers."""
    low = call.get("min") if low is None else low
    high = call.get("max") if high is None else high
    return gw.clip(x, low, high)


def expand(call: Call, x: Value, shape: Value) -> Value:
    """The elements repeated to a shape."""
    return gw.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(call.integers(shape, "a shape") or ())))


def tile(call: Call, x: Value, reps: Value) -> Value:
    """Copies along each axis."""
    return gw.tile(x, call.integers(reps, "repeats") or ())


def split(call: Call, x: Value, sizes: Value = None) -> Value:
    """Parts along an axis, the last of equal ones the shorter."""
    axis = call.get("axis", 0)
    parts = call.integers(sizes, "sizes") if sizes is not None else call.get("split")
    if parts is None:
        count = call.get("num_outputs") or call.output_count
        width = -(-x.shape[axis] // count)
        parts = [width] * count
    return gw.split(x, np.cumsum(parts)[:-1].tolist(), axis)


def slice_(
    call: Call, x: Value, starts: Value = None, ends: Value = None, axes: Value = None, steps: Value = None
) -> Value:
    """Parts of axes, in steps."""
    first = call.get("starts") or call.integers(starts, "starts") or []
    last = call.get("ends") or call.integers(ends, "ends") or []
    own = call.get("axes") or call.integers(axes, "axes") or range(len(first))
    by = call.integers(steps, "steps") or [1] * len(first)
    spans = [slice(None)] * x.ndim
    for axis, start, end, step in zip(own, first, last, by, strict=True):
        size = x.shape[axis]
        # Before the first element, going backwards, there is no number for Python.
        spans[axis] = slice(start, None if step < 0 and end < -size else end, step)
    return as_expression(x)[tuple(spans)]


def gather_elements(call: Call, x: Value, places: Value) -> Value:
    """An element for each place along an axis."""
    axis, own = call.get("axis", 0), np.asarray(call.known(places, "places"))
    own = np.where(own < 0, own + x.shape[axis], own)
    grid = list(np.indices(own.shape))
    grid[axis] = own
    return moved(x, places_of(x.shape)[tuple(grid)])


def gather_nd(call: Call, x: Value, places: Value) -> Value:
    """Slices by tuples of integers."""
    batch, own = call.get("batch_dims", 0), np.asarray(call.known(places, "places"))
    numbers = places_of(x.shape)
    if batch:
        flat = own.reshape(-1, *own.shape[batch:])
        rows = numbers.reshape(-1, *x.shape[batch:])
        found = np.stack([row[tuple(np.moveaxis(place, -1, 0))] for row, place in zip(rows, flat, strict=True)])
        return moved(x, found.reshape(*own.shape[:batch], *found.shape[1:]))
    return moved(x, numbers[tuple(np.moveaxis(own, -1, 0))])


def _scattered(call: Call, x: Value, targets: Any, updates: Value) -> Value:
    """Elements of updates at places of x, replacing or joined with what is there."""
    kind = call.get("reduction", "none")
    flat = targets.ravel()
    size = math.prod(x.shape)
    if kind == "add":
        return gw.add(x, gw.reshape(gw.scatter_add(gw.ravel(updates), flat, size), x.shape))
    once = len(np.unique(flat)) == len(flat)
    if kind != "none" and not once:
        raise Unsupported(f"with reduction {kind} of one place several times")
    sources = np.full(size, -1)
    sources[flat] = np.arange(len(flat))
    sources = sources.reshape(x.shape)
    found = moved(as_expression(updates), sources)
    if kind == "none":
        return gw.where(sources >= 0, found, x)
    join = {"mul": gw.mul, "max": gw.maximum, "min": gw.minimum}[kind]
    return gw.where(sources >= 0, join(x, found), x)


def scatter_elements(call: Call, x: Value, places: Value, updates: Value) -> Value:
    """A tensor with an element set for each place along an axis."""
    axis, own = call.get("axis", 0), np.asarray(call.known(places, "places"))
    grid = list(np.indices(own.shape))
    grid[axis] = np.where(own < 0, own + x.shape[axis], own)
    return _scattered(call, x, places_of(x.shape)[tuple(grid)], updates)


def scatter_nd(call: Call, x: Value, places: Value, updates: Value) -> Value:
    """A tensor with slices set by tuples of integers."""
    own = np.asarray(call.known(places, "places"))
    return _scattered(call, x, places_of(x.shape)[tuple(np.moveaxis(own, -1, 0))], updates)


def pad(call: Call, x: Value, pads: Value = None, value: Value = None, axes: Value = None) -> Value:
    """Elements added before and after, or taken away."""
    widths = call.integers(pads, "pads") if pads is not None else call.get("pads")
    own = call.integers(axes, "axes")
    pairs = [(0, 0)] * x.ndim
    half = len(widths) // 2
    for axis, before, after in zip(own or range(half), widths[:half], widths[half:], strict=True):
        pairs[axis] = (before, after)
    mode = call.get("mode", "constant")
    grown = [(max(before, 0), max(after, 0)) for before, after in pairs]
    places = places_of(x.shape)
    filled = np.pad(places, grown, mode=mode, **({"constant_values": -1} if mode == "constant" else {}))
    cut = tuple(
        slice(max(-before, 0), size - max(-after, 0)) for (before, after), size in zip(pairs, filled.shape, strict=True)
    )
    beside = call.known(value, "a value") if value is not None else call.get("value", 0.0)
    return moved(x, filled[cut], float(np.asarray(beside).reshape(())))


def cumsum(call: Call, x: Value, axis: Value) -> Value:
    """Sums of the elements up to each, or before it."""
    own = int(np.asarray(call.known(axis, "an axis")).reshape(()))
    node = gw.flip(x, own) if call.get("reverse", 0) else as_expression(x)
    total = gw.cumsum(node, own)
    if call.get("exclusive", 0):
        total = gw.roll(total, 1, own)
        first = np.arange(x.shape[own]).reshape([-1 if axis == own % x.ndim else 1 for axis in range(x.ndim)]) == 0
        total = gw.where(first, 0, total)
    return gw.flip(total, own) if call.get("reverse", 0) else total


def power(call: Call, x: Value, exponent: Value) -> Value:
    """x to the power of numbers, or of what is computed, then for x > 0."""
    learned = isinstance(exponent, Expression) and exponent.kind == "parameter"
    return elementwise.power(x, call.known(exponent, "an exponent") if learned else exponent)


def where(_: Call, condition: Value, x: Value, y: Value) -> Value:
    """x or y, elementwise."""
    return gw.where(condition, x, y)


def dropout(call: Call, x: Value, _: Value = None, training: Value = None) -> Value:
    """The elements themselves: nothing is dropped where a model is not in training."""
    if training is not None and np.any(call.known(training, "training_mode")):
        raise Unsupported("in training")
    return [x, np.ones(x.shape, bool)]


def einsum(call: Call, *operands: Value) -> Value:
    """Sums of products by Einstein's convention."""
    return gw.einsum(call.get("equation"), *operands)


def space_to_depth(call: Call, x: Value) -> Value:
    """Blocks of space as channels."""
    size = call.get("blocksize")
    batch, channels, height, width = x.shape
    blocks = gw.reshape(x, (batch, channels, height // size, size, width // size, size))
    order = gw.transpose(blocks, (0, 1, 3, 5, 2, 4) if call.get("mode") == "CRD" else (0, 3, 5, 1, 2, 4))
    return gw.reshape(order, (batch, channels * size * size, height // size, width // size))


def depth_to_space(call: Call, x: Value) -> Value:
    """Channels as blocks of space."""
    size = call.get("blocksize")
    batch, channels, height, width = x.shape
    depth = channels // (size * size)
    if call.get("mode", "DCR") == "DCR":
        blocks = gw.transpose(gw.reshape(x, (batch, size, size, depth, height, width)), (0, 3, 4, 1, 5, 2))
    else:
        blocks = gw.transpose(gw.reshape(x, (batch, depth, size, size, height, width)), (0, 1, 4, 2, 5, 3))
    return gw.reshape(blocks, (batch, depth, height * size, width * size))


def _activation(function: Callable[..., Expression], **defaults: float) -> Callable[..., Expression]:
    """An activation with numbers for attributes."""

    def rule(call: Call, x: Value) -> Expression:
        return function(as_expression(x), *(call.get(name, default) for name, default in defaults.items()))

    return rule


def _selu(x: Expression, alpha: float, gamma: float) -> Expression:
    return gw.mul(gamma, gw.elu(x, alpha))


def _leaky(x: Expression, alpha: float) -> Expression:
    return gw.where(gw.less(x, 0), gw.mul(alpha, x), x)


def prelu(_: Call, x: Value, slope: Value) -> Value:
    """x, or a slope times x where it is negative."""
    return gw.where(gw.less(x, 0), gw.mul(slope, x), x)


def gelu(call: Call, x: Value) -> Value:
    """The Gaussian error linear unit."""
    return gw.gelu(x, approximate=call.get("approximate", "none") == "tanh")


def trilu(call: Call, x: Value, k: Value = None) -> Value:
    """The triangle above, or below, a diagonal."""
    offset = 0 if k is None else int(np.asarray(call.known(k, "a diagonal")).reshape(()))
    return gw.triu(x, offset) if call.get("upper", 1) else gw.tril(x, offset)


def _joined(parts: Sequence[Value], axis: int) -> Value:
    return gw.concatenate(parts, axis)


RULES: dict[str, Callable[..., Value]] = {
    **{name: _plain(function) for name, function in elementwise.OF_ONNX.items()},
    **onnx_layers.RULES,
    **onnx_places.RULES,
    "CastLike": lambda _, x, __: x,
    "Celu": _activation(lambda x, alpha: gw.elu(x / alpha, 1) * alpha, alpha=1.0),
    "Clip": clip,
    "Concat": lambda call, *parts: _joined(parts, call.get("axis", 1)),
    "CumSum": cumsum,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Einsum": einsum,
    "Elu": _activation(gw.elu, alpha=1.0),
    "Expand": expand,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Gelu": gelu,
    "HardSigmoid": _activation(lambda x, a, b: gw.clip(a * x + b, 0, 1), alpha=0.2, beta=0.5),
    "HardSwish": lambda _, x: gw.mul(x, gw.clip(x / 6 + 0.5, 0, 1)),
    "LeakyRelu": _activation(_leaky, alpha=0.01),
    "LogSoftmax": _soft(gw.log_softmax),
    "MatMul": lambda _, a, b: gw.matmul(a, b),
    "Mean": lambda _, *own: gw.mul(gw.add(*own), 1 / len(own)),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": power,
    "ReduceL1": _reduced(_norm_1),
    "ReduceL2": _reduced(_norm_2),
    "ReduceLogSum": _reduced(_log_sum),
    "ReduceLogSumExp": _reduced(gw.logsumexp),
    "ReduceMax": _reduced(gw.max),
    "ReduceMean": _reduced(gw.mean),
    "ReduceMin": _reduced(gw.min),
    "ReduceProd": _reduced(gw.prod),
    "ReduceSum": _reduced(gw.sum),
    "ReduceSumSquare": _reduced(_square_sum),
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Selu": _activation(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Shrink": _activation(
        lambda x, bias, lambd: gw.where(x < -lambd, x + bias, gw.where(x > lambd, x - bias, 0)), bias=0.0, lambd=0.5
    ),
    "Slice": slice_,
    "Softmax": _soft(gw.softmax),
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Swish": _activation(lambda x, alpha: x * gw.sigmoid(alpha * x), alpha=1.0),
    "ThresholdedRelu": _activation(lambda x, alpha: gw.where(x > alpha, x, 0), alpha=1.0),
    "Tile": tile,
    "Transpose": lambda call, x: gw.transpose(x, call.get("perm")),
    "Trilu": trilu,
}
