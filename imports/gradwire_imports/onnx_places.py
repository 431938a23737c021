"""What the operators of ONNX are that take row indices, and give tensors of numbers, or row indices, other shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import as_expression
from gradwire_imports.onnx_operand import Call
from gradwire_imports.values import Indices, Unsupported, Value


def _reshaped(x: Value, sizes: Sequence[int]) -> Value:
    return x.reshaped(sizes) if isinstance(x, Indices) else gw.reshape(x, tuple(sizes))


def reshape(call: Call, x: Value, shape: Value = None) -> Value:
    """The elements in another shape, where 0 is the size that was."""
    sizes = call.integers(shape, "a shape") if shape is not None else call.get("shape")
    if not call.get("allowzero", 0):
        sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return _reshaped(x, sizes)


def flatten(call: Call, x: Value) -> Value:
    """A matrix, of the axes before one and from it on."""
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return _reshaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def squeeze(call: Call, x: Value, axes: Value = None) -> Value:
    """Axes of size 1 gone."""
    own = call.integers(axes, "axes") if axes is not None else call.get("axes")
    if isinstance(x, Indices):
        return x.reshaped(np.squeeze(np.empty(x.shape, bool), None if own is None else tuple(own)).shape)
    return gw.squeeze(x, None if own is None else tuple(own))


def unsqueeze(call: Call, x: Value, axes: Value = None) -> Value:
    """New axes of size 1."""
    own = call.integers(axes, "axes") if axes is not None else call.get("axes")
    if isinstance(x, Indices):
        return x.reshaped(np.expand_dims(np.empty(x.shape, bool), tuple(own)).shape)
    return gw.expand_dims(x, tuple(own))


def gather(call: Call, x: Value, places: Value) -> Value:
    """Entries along an axis by integer index."""
    axis = call.get("axis", 0)
    if isinstance(x, Indices):
        raise Unsupported("of row indices")
    if isinstance(places, Indices):
        node = as_expression(x)
        before, after = node.shape[: axis % node.ndim], node.shape[axis % node.ndim + 1 :]
        return gw.reshape(gw.take(node, places.node, axis), (*before, *places.shape, *after))
    return gw.take(x, np.asarray(call.known(places, "places")), axis)


def cast(call: Call, x: Value, *_: Value) -> Value:
    """The numbers themselves, from floats to floats, and row indices to other integers that hold them."""
    if isinstance(x, Indices):
        if call.get("to", 1) not in (6, 7):
            raise Unsupported("of row indices to other types than int32 and int64")
        return x
    if call.get("to", 1) not in (1, 11):
        raise Unsupported("to other types than float and double")
    return x


def shape(call: Call, x: Value) -> Value:
    """The sizes of the axes, which are known."""
    return np.asarray(x.shape[call.get("start", 0) : call.get("end")], np.int64)


RULES: dict[str, Callable[..., Value]] = {
    "Cast": cast,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": lambda _, x: x,
    "Reshape": reshape,
    "Shape": shape,
    "Size": lambda _, x: np.asarray(math.prod(x.shape), np.int64),
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
