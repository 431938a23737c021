"""What each primitive of JAX is as an expression."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression
from gradwire_imports import elementwise, jax_indexing
from gradwire_imports.values import Indices, Unsupported, Value, is_known, moved, places_of
from gradwire_imports.windows import Window, convolution, patches

_WHOLE_REFUSED = {"div", "pow", "sqrt", "and", "or", "not", "xor"}
"""Primitives that mean something else for integers."""

_OF_NUMBERS = {"eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "neg", "abs", "max", "min"}
"""Primitives that are of row indices what they are of the same numbers as floats."""


def built(eqn: Any, *operands: Value) -> Value:
    """An elementwise primitive, by the table that frameworks share."""
    name = eqn.primitive.name
    if any(isinstance(operand, Indices) for operand in operands):
        return _of_indices(eqn, operands)
    if name in _WHOLE_REFUSED and any(var.aval.dtype.kind in "iu" for var in eqn.invars):
        raise Unsupported("of integers that are computed from arguments")
    if any(var.aval.dtype.kind == "c" for var in eqn.invars):
        raise Unsupported("of complex numbers")
    return elementwise.OF_JAX[name](*operands)


def _of_indices(eqn: Any, operands: tuple[Value, ...]) -> Value:
    """What functions do with row indices: count negative ones from the end, compare them, and compute with them."""
    name, first = eqn.primitive.name, operands[0]
    known = next((np.asarray(own) for own in operands if is_known(own)), None)
    if name == "lt" and isinstance(first, Indices) and known is not None and not known.any():
        return first
    if name == "add" and isinstance(first, Indices) and known is not None and len(np.unique(known)) == 1:
        return replace(first, offset=first.offset + int(known.flat[0]))
    if name in _OF_NUMBERS:
        return elementwise.OF_JAX[name](*(own.numbers if isinstance(own, Indices) else own for own in operands))
    raise Unsupported("of row indices")


def select_n(eqn: Any, which: Value, *cases: Value) -> Value:
    """One of several, elementwise."""
    if isinstance(which, Indices):
        # Negative ones count from the end: to those a size has been added.
        alike = all(isinstance(case, Indices) and case.node is which.node for case in cases)
        if alike and which.offset == cases[0].offset == 0:
            return replace(cases[0], size=cases[1].offset)
        which = gw.less(which.numbers, 0)
    if any(isinstance(case, Indices) for case in cases):
        raise Unsupported("of row indices")
    if len(cases) == 2:
        return gw.where(which, cases[1], cases[0])
    result = cases[0]
    for number, case in enumerate(cases[1:], start=1):
        result = gw.where(gw.equal(which, number), case, result)
    del eqn
    return result


def convert_element_type(eqn: Any, x: Value) -> Value:
    """The number itself: all are of the dtype of the call."""
    old, new = eqn.invars[0].aval.dtype, eqn.params["new_dtype"]
    if isinstance(x, Indices):
        if np.dtype(new).kind in "iu":
            return x
        return gw.not_equal(x.numbers, 0) if np.dtype(new).kind == "b" else x.numbers
    if np.dtype(new).kind == "b" and old.kind != "b":
        return gw.not_equal(x, 0)
    if (np.dtype(new).kind in "iu" and old.kind not in "iub") or np.dtype(new).kind == "c":
        raise Unsupported(f"from {old} to {np.dtype(new)}")
    return x


def stop_gradient(eqn: Any, x: Value) -> Value:
    """The value, with no gradient; row indices have none."""
    return x if isinstance(x, Indices) else gw.stop_gradient(x)


def broadcast_in_dim(eqn: Any, x: Value) -> Value:
    """New axes, of size 1 as yet: what is elementwise broadcasts, and others have it made full."""
    shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    own = eqn.invars[0].aval.shape
    if isinstance(x, Indices):
        return x.reshaped(tuple(shape))
    have = as_expression(x).shape or (1,) * len(own)
    sizes = [1] * len(shape)
    for place, size in zip(places, have, strict=True):
        sizes[place] = size
    return gw.reshape(x, sizes)


def reshape(eqn: Any, x: Value) -> Value:
    """The elements in another shape."""
    shape = eqn.outvars[0].aval.shape
    return x.reshaped(shape) if isinstance(x, Indices) else gw.reshape(x, shape)


def integer_pow(eqn: Any, x: Value) -> Value:
    """x to the power of an integer."""
    return gw.power(x.numbers if isinstance(x, Indices) else x, eqn.params["y"])


def clamp(_: Any, low: Value, x: Value, high: Value) -> Value:
    """x between two bounds."""
    return gw.clip(x, low, high)


def _reduction(function: Callable[..., Expression]) -> Callable[..., Expression]:
    return lambda eqn, x: function(x, tuple(eqn.params["axes"]))


def _cumulative(function: Callable[..., Expression]) -> Callable[..., Expression]:
    def rule(eqn: Any, x: Value) -> Expression:
        axis = eqn.params["axis"]
        if not eqn.params["reverse"]:
            return function(x, axis)
        return gw.flip(function(gw.flip(x, axis), axis), axis)

    return rule


def _running(join: Callable[..., Expression]) -> Callable[..., Expression]:
    """What is joined of the elements up to each, one after another."""

    def along(x: Expression, axis: int) -> Expression:
        parts = gw.split(x, x.shape[axis], axis) if x.shape[axis] else [x]
        for place in range(1, len(parts)):
            parts[place] = join(parts[place - 1], parts[place])
        return gw.concatenate(parts, axis)

    return along


def dot_general(eqn: Any, left: Value, right: Value) -> Value:
    """Sums of products over some axes of both, for each index of others."""
    (contracted, batched), labels = eqn.params["dimension_numbers"], iter(string.ascii_letters)
    first, second = as_expression(left), as_expression(right)
    if (
        not batched[0]
        and (list(contracted[0]), list(contracted[1])) == ([first.ndim - 1], [0])
        and max(first.ndim, second.ndim) <= 2
    ):
        return gw.matmul(first, second)
    mine, theirs = [next(labels) for _ in first.shape], [next(labels) for _ in second.shape]
    for axis, other in [*zip(*batched, strict=True), *zip(*contracted, strict=True)]:
        theirs[other] = mine[axis]
    out = [mine[axis] for axis in batched[0]]
    out += [own for axis, own in enumerate(mine) if axis not in (*batched[0], *contracted[0])]
    out += [own for axis, own in enumerate(theirs) if axis not in (*batched[1], *contracted[1])]
    return gw.einsum(f"{''.join(mine)},{''.join(theirs)}->{''.join(out)}", first, second)


def conv_general_dilated(eqn: Any, x: Value, kernel: Value) -> Value:
    """A convolution, of any layout."""
    params = eqn.params
    if params["batch_group_count"] != 1:
        raise Unsupported("with batch groups")
    left, right, out = params["dimension_numbers"]
    kernels = gw.transpose(kernel, right)
    window = Window(
        kernels.shape[2:], params["window_strides"], params["padding"], params["rhs_dilation"], params["lhs_dilation"]
    )
    found = convolution(gw.transpose(x, left), kernels, window, params["feature_group_count"])
    return gw.transpose(found, np.argsort(out).tolist())


def _windowed(reduce: Callable[..., Expression], beside: float) -> Callable[..., Expression]:
    def rule(eqn: Any, x: Value) -> Expression:
        params = eqn.params
        window = Window(
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            params["window_dilation"],
            params["base_dilation"],
        )
        found, counts = patches(as_expression(x), window, beside)
        return gw.reshape(reduce(found, -2), counts)

    return rule


def pad(eqn: Any, x: Value, beside: Value) -> Value:
    """Elements added around and between, or taken away."""
    places = np.asarray(jax.lax.pad(places_of(x.shape) + 1, 0, eqn.params["padding_config"])) - 1
    if is_known(beside):
        return moved(as_expression(x), places, float(beside))
    return gw.where(places < 0, beside, moved(as_expression(x), places))


def slice_(eqn: Any, x: Value) -> Value:
    """Parts of axes, in steps."""
    starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)
    return as_expression(x)[tuple(map(slice, starts, ends, steps))] if starts else x


def split(eqn: Any, x: Value) -> list[Expression]:
    """The parts along an axis."""
    return gw.split(x, np.cumsum(eqn.params["sizes"])[:-1].tolist(), eqn.params["axis"])


def _whole(rule: Callable[..., Value]) -> Callable[..., Value]:
    """A rule that has no meaning for row indices."""

    def checked(eqn: Any, *operands: Value) -> Value:
        if any(isinstance(operand, Indices) for operand in operands):
            raise Unsupported("of row indices")
        return rule(eqn, *operands)

    return checked


ELEMENTWISE: dict[str, Callable[..., Value]] = {
    **dict.fromkeys(elementwise.OF_JAX, built),
    "add_any": _whole(lambda _, a, b: gw.add(a, b)),
    "broadcast_in_dim": broadcast_in_dim,
    "clamp": _whole(clamp),
    "convert_element_type": convert_element_type,
    "copy": lambda _, x: x,
    "copy_p": lambda _, x: x,
    "erfc": _whole(lambda _, x: gw.subtract(1, gw.erf(x))),
    "integer_pow": integer_pow,
    "optimization_barrier": lambda _, *own: list(own),
    "reduce_precision": lambda _, x: x,
    "select_n": select_n,
    "stop_gradient": stop_gradient,
}
"""Rules whose operands may still have axes of size 1 that stand for longer ones."""

_OF_FLOATS: dict[str, Callable[..., Value]] = {
    "concatenate": lambda eqn, *own: gw.concatenate(own, eqn.params["dimension"]),
    "conv_general_dilated": conv_general_dilated,
    "cumlogsumexp": _cumulative(_running(gw.logaddexp)),
    "cummax": _cumulative(_running(gw.maximum)),
    "cummin": _cumulative(_running(gw.minimum)),
    "cumprod": _cumulative(_running(gw.mul)),
    "cumsum": _cumulative(gw.cumsum),
    "dot_general": dot_general,
    "pad": pad,
    "reduce_and": _reduction(gw.min),
    "reduce_max": _reduction(gw.max),
    "reduce_min": _reduction(gw.min),
    "reduce_or": _reduction(gw.max),
    "reduce_prod": _reduction(gw.prod),
    "reduce_sum": _reduction(gw.sum),
    "reduce_window_max": _windowed(gw.max, -np.inf),
    "reduce_window_min": _windowed(gw.min, np.inf),
    "reduce_window_sum": _windowed(gw.sum, 0.0),
    "rev": lambda eqn, x: gw.flip(x, tuple(eqn.params["dimensions"])),
    "slice": slice_,
    "split": split,
    "stack": lambda eqn, *own: gw.stack(own, eqn.params["axis"]),
    "tile": lambda eqn, x: gw.tile(x, eqn.params["reps"]),
    "transpose": lambda eqn, x: gw.transpose(x, eqn.params["permutation"]),
    "unstack": lambda eqn, x: list(gw.moveaxis(x, eqn.params["axis"], 0)),
}

RULES: dict[str, Callable[..., Value]] = {
    "reshape": reshape,
    "squeeze": reshape,
    "expand_dims": reshape,
    **jax_indexing.RULES,
    **{name: _whole(rule) for name, rule in _OF_FLOATS.items()},
}
"""Rules whose operands have all their elements."""

CUSTOM: dict[str, tuple[Callable[..., Expression], Callable[..., Any]]] = {
    # The derivative at 0 is 0, under either tie rule.
    "relu": (lambda x: gw.where(gw.less(0, x), x, gw.minimum(x, 0) * 0), jax.nn.relu),
    "logaddexp": (gw.logaddexp, jax.numpy.logaddexp),
}
"""Functions of JAX that have derivatives of their own, by their names: what they are as expressions, and in JAX."""
