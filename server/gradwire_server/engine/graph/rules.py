"""Shape rules: what an op makes of the shapes of its operands, and its attributes in normal form."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from gradwire_server.engine.graph.graph import Array, Attributes, Shape
from gradwire_server.engine.graph.shapes import broadcast, first_true, problem, size, text
from gradwire_server.limits import MAX_RANK


class OperandError(Exception):
    """Wrong use of an op; the message says what was found and what was expected.

    ``field`` is the wrong field of the node, such as ``axes[1]``, or empty for the node as a whole.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Spec(NamedTuple):
    """What is known of an operand before there are numbers."""

    shape: Shape
    constant: Array | None = None
    """Its value, if it is a constant of the graph that is no float scalar."""


Inferred = tuple[Shape, Attributes]
"""Shape of the result, and attributes in normal form."""


def elementwise(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Operands broadcast."""
    shapes = [spec.shape for spec in specs]
    result = broadcast(shapes)
    if result is None:
        found = " and ".join(map(text, shapes[:4])) + (" ..." if len(shapes) > 4 else "")
        raise OperandError(f"operands of shapes {found} do not broadcast", "operands")
    return result, {}


def power(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """An operand of any shape, and a finite exponent."""
    exponent = attributes["exponent"]
    if exponent is None:
        raise OperandError("the exponent is not set; give a number", "exponent")
    if not isfinite(exponent):
        raise OperandError(f"the exponent is {exponent}; it must be finite", "exponent")
    return specs[0].shape, {}


def reduction(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Axes go, or stay with size 1; all of them where none are given."""
    shape = specs[0].shape
    axes = tuple(sorted(_normal_axes(attributes["axes"], shape))) or tuple(range(len(shape)))
    keepdims = bool(attributes["keepdims"])
    lengths = [1 if axis in axes else length for axis, length in enumerate(shape) if keepdims or axis not in axes]
    return tuple(lengths), {"axes": axes, "keepdims": keepdims}


def nonempty_reduction(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Axes that have elements go, or stay with size 1; see ``reduction``."""
    result, normal = reduction(specs, attributes)
    shape = specs[0].shape
    for axis in normal["axes"]:
        if shape[axis] == 0:
            raise OperandError(
                f"axis {axis} of shape {text(shape)} is empty, and nothing has no maximum; reduce another axis",
                "axes",
            )
    return result, normal


def matmul(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Vectors and matrices whose inner axes match, and stacks of them that broadcast."""
    a, b = (spec.shape for spec in specs)
    for slot, shape in enumerate((a, b)):
        if not shape:
            raise OperandError("the operand is a scalar; use mul to scale", f"operands[{slot}]")
    inner = b[0] if len(b) == 1 else b[-2]
    if a[-1] != inner:
        raise OperandError(
            f"shapes {text(a)} and {text(b)} do not match: {a[-1]} columns against {inner} rows", "operands"
        )
    stack = broadcast([a[:-2], b[:-2]])
    if stack is None:
        raise OperandError(f"the stacks of shapes {text(a)} and {text(b)} do not broadcast", "operands")
    return stack + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ()), {}


def reshape(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """A shape of as many elements as before; one size may be -1 and is worked out."""
    have = specs[0].shape
    wanted = list(attributes["shape"])
    open_axes = [axis for axis, length in enumerate(wanted) if length == -1]
    for axis, length in enumerate(wanted):
        if length < -1:
            raise OperandError(f"size {length} is negative; only -1 (worked out) may be", f"shape[{axis}]")
    if len(open_axes) > 1:
        raise OperandError(f"shape {text(wanted)} has -1 more than once", f"shape[{open_axes[1]}]")
    wrong = problem([1 if length == -1 else length for length in wanted], MAX_RANK)
    if wrong is not None:
        raise OperandError(f"the result {wrong}", "shape")
    if open_axes:
        known = size([length for length in wanted if length != -1])
        if known == 0 or size(have) % known:
            raise OperandError(f"shape {text(have)} with {size(have)} elements does not fit {text(wanted)}", "shape")
        wanted[open_axes[0]] = size(have) // known
    if size(wanted) != size(have):
        raise OperandError(
            f"shape {text(have)} has {size(have)} elements, shape {text(wanted)} has {size(wanted)}", "shape"
        )
    return tuple(wanted), {"shape": tuple(wanted)}


def transpose(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """All axes, each once; reversed where none are given."""
    shape = specs[0].shape
    axes = _normal_axes(attributes["axes"], shape) or tuple(reversed(range(len(shape))))
    if len(axes) != len(shape):
        raise OperandError(f"{len(axes)} axes are given for shape {text(shape)} with {len(shape)}; give all", "axes")
    return tuple(shape[axis] for axis in axes), {"axes": axes}


def take(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Entries of the first operand along an axis; constant indices must be in range."""
    entries, indices = specs
    if not entries.shape:
        raise OperandError("the first operand is a scalar and has no rows", "operands[0]")
    axis = _normal_axis(attributes.get("axis", 0), entries.shape)
    _check_indices(indices, entries.shape[axis])
    # The first axis goes without saying.
    return entries.shape[:axis] + indices.shape + entries.shape[axis + 1 :], {"axis": axis} if axis else {}


def scatter_add(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Entries that are summed along an axis of a given size; constant indices must be in range."""
    entries, indices = specs
    count, rank = attributes["size"], len(indices.shape)
    if count < 0:
        raise OperandError(f"size {count} is negative; an axis has at least size 0", "size")
    result_rank = len(entries.shape) - rank + 1
    if result_rank < 1:
        raise OperandError(
            f"indices of shape {text(indices.shape)} have more axes than the entries of shape {text(entries.shape)}",
            "operands",
        )
    axis = _normal_axis(attributes["axis"], (count,) * result_rank)
    if entries.shape[axis : axis + rank] != indices.shape:
        raise OperandError(
            f"indices of shape {text(indices.shape)} are not for entries of shape {text(entries.shape)}, which has "
            f"{text(entries.shape[axis : axis + rank])} from axis {axis} on",
            "operands",
        )
    _check_indices(indices, count)
    return (*entries.shape[:axis], count, *entries.shape[axis + rank :]), {"axis": axis, "size": count}


def concatenate(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Operands of shapes that are equal but for one axis."""
    first = specs[0].shape
    if not first:
        raise OperandError("the operand is a scalar; reshape it to (1,) first", "operands[0]")
    axis = _normal_axis(attributes["axis"], first)
    for slot, spec in enumerate(specs):
        shape = spec.shape
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise OperandError(
                f"shapes {text(first)} and {text(shape)} differ beside axis {axis}, along which they would be "
                "concatenated",
                f"operands[{slot}]",
            )
    return (*first[:axis], sum(spec.shape[axis] for spec in specs), *first[axis + 1 :]), {"axis": axis}


def slice_(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """Elements at regular distances along each axis, all of which exist."""
    shape = specs[0].shape
    starts, sizes, steps = (list(attributes[name]) for name in ("starts", "sizes", "steps"))
    for name, found in (("starts", starts), ("sizes", sizes), ("steps", steps)):
        if len(found) != len(shape) and (found or name != "steps"):
            raise OperandError(f"{len(found)} {name} are given for shape {text(shape)} with {len(shape)} axes", name)
    steps = steps or [1] * len(shape)
    for axis, (length, start, size_, step) in enumerate(zip(shape, starts, sizes, steps, strict=True)):
        if size_ < 0:
            raise OperandError(f"size {size_} is negative", f"sizes[{axis}]")
        if step == 0:
            raise OperandError("step 0 goes nowhere; give 1 for all elements", f"steps[{axis}]")
        if size_ == 0:
            starts[axis], steps[axis] = 0, 1
            continue
        if not -length <= start < length:
            raise OperandError(f"start {start} is out of range for axis {axis} of size {length}", f"starts[{axis}]")
        starts[axis] = start % length
        last = starts[axis] + (size_ - 1) * step
        if not 0 <= last < length:
            raise OperandError(
                f"{size_} elements from {starts[axis]} on in steps of {step} end with {last}, out of range for axis "
                f"{axis} of size {length}",
                f"sizes[{axis}]",
            )
        if size_ == 1:
            steps[axis] = 1
    return tuple(sizes), {"starts": tuple(starts), "sizes": tuple(sizes), "steps": tuple(steps)}


def cumsum(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """An operand that has the axis; its shape stays."""
    shape = specs[0].shape
    if not shape:
        raise OperandError("the operand is a scalar and has no axis", "operands[0]")
    return shape, {"axis": _normal_axis(attributes["axis"], shape)}


def _check_indices(indices: Spec, count: int) -> None:
    given = indices.constant
    wrong = None if given is None else first_true((given < -count) | (given >= count))
    if given is not None and wrong is not None:
        raise OperandError(
            f"index {given[wrong]} at position {text(wrong)} is out of range for {count} rows", "operands[1]"
        )


def _normal_axis(axis: int, shape: Shape) -> int:
    """The axis counted from the front; raises OperandError."""
    rank = len(shape)
    if not -rank <= axis < rank:
        raise OperandError(f"axis {axis} is out of range for {rank} axes", "axis")
    return axis % rank


def _normal_axes(axes: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """The axes counted from the front, in the order given; raises OperandError."""
    rank = len(shape)
    normal: list[int] = []
    for position, axis in enumerate(axes):
        if not -rank <= axis < rank:
            raise OperandError(
                f"axis {axis} is out of range for shape {text(shape)} with {rank} axes", f"axes[{position}]"
            )
        if axis % rank in normal:
            raise OperandError(f"axis {axis} is given twice; give each axis once", f"axes[{position}]")
        normal.append(axis % rank)
    return tuple(normal)
