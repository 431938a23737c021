"""``x[...]`` as NumPy has it: integers, slices, ellipses, new axes, masks and arrays of integers."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire._arrays import AS_NUMBERS, holds_integers
from gradwire._errors import InvalidGraphError, ValueNeededError
from gradwire._expressions.expression import Expression
from gradwire._expressions.node import postorder
from gradwire._expressions.primitives import part, reshape, take, transpose
from gradwire._expressions.products import einsum
from gradwire._expressions.shapes import is_integer

Picks = Expression | NDArray[Any]
Item = int | slice | None | Picks
"""What is for one axis, or None for a new one."""


class _Mask(NamedTuple):
    """An axis of a mask."""

    size: int
    picks: NDArray[np.int64]


def getitem(node: Expression, index: Any) -> Expression:  # noqa: ANN401  (whatever stands between the brackets)
    """Entries of an expression."""
    if type(index) is int and node.shape:
        # By far the most, in loops over elements.
        return take(node, index)
    items = _items(node, index)
    if len(items) == 1 and not isinstance(items[0], slice | type(None)):
        # One integer, or integers for the first axis.
        return take(node, items[0] if isinstance(items[0], Expression) else np.asarray(items[0]))
    own = [item for item in items if item is not None]
    own += [slice(None)] * (node.ndim - len(own))
    arrays = [place for place, item in enumerate(items) if item is not None and not isinstance(item, int | slice)]
    node = part(node, [_span(item, size) for item, size in zip(own, node.shape, strict=True)])
    items += [slice(None)] * (node.ndim - sum(item is not None for item in items))
    sizes = iter(node.shape)
    if not arrays:
        shape = [1 if item is None else next(sizes) for item in items]
        return reshape(node, [size for item, size in zip(items, shape, strict=True) if not isinstance(item, int)])
    return _picked(reshape(node, [1 if item is None else next(sizes) for item in items]), items)


def _picked(node: Expression, items: Sequence[Item]) -> Expression:
    """Entries by arrays; slices have been made, and integers stand for axes of size 1."""
    advanced = [axis for axis, item in enumerate(items) if item is not None and not isinstance(item, slice)]
    wide = [axis for axis in advanced if not isinstance(items[axis], int)]
    beside = advanced == list(range(advanced[0], advanced[0] + len(advanced)))
    first = sum(axis not in advanced for axis in range(advanced[0])) if beside else 0
    rest = [axis for axis in range(node.ndim) if axis not in advanced]
    node = transpose(node, (*rest[:first], *advanced, *rest[first:]))
    sizes = node.shape[first : first + len(advanced)]
    merged = (*node.shape[:first], int(np.prod(sizes, dtype=object)), *node.shape[first + len(advanced) :])
    picks = [items[axis] for axis in wide]
    if len(picks) == 1 and isinstance(picks[0], Expression):
        # All other axes have size 1.
        return take(reshape(node, merged), picks[0], first)
    if any(isinstance(pick, Expression) for pick in picks):
        arrays = [pick for pick in picks if not isinstance(pick, int | slice | None)]
        kept = [size for axis, size in zip(advanced, sizes, strict=True) if axis in wide]
        before, behind = node.shape[:first], node.shape[first + len(advanced) :]
        return _paired(reshape(node, (*before, *kept, *behind)), arrays, first)
    own = [np.asarray(0 if isinstance(items[axis], int) else items[axis]) for axis in advanced]
    try:
        together = np.broadcast_arrays(*own)
    except ValueError:
        raise InvalidGraphError(f"index arrays of shapes {[pick.shape for pick in own]} do not broadcast") from None
    wrapped = [_wrapped(node, pick, size) for pick, size in zip(together, sizes, strict=True)]
    flat = np.ravel_multi_index(wrapped, sizes) if together[0].size else np.zeros(together[0].shape)
    return take(reshape(node, merged), np.asarray(flat, np.int64), first)


def _paired(node: Expression, picks: Sequence[Picks], first: int) -> Expression:
    """Entries by arrays of which some are inputs, for the axes from ``first`` on: of those of all pairs one each."""
    try:
        shape = np.broadcast_shapes(*(pick.shape for pick in picks))
    except ValueError:
        raise InvalidGraphError(f"index arrays of shapes {[pick.shape for pick in picks]} do not broadcast") from None
    before, letters = string.ascii_letters[:first], string.ascii_letters[first : first + len(shape)]
    labels, sizes, place = before, list(node.shape[:first]), first
    for pick in picks:
        node = take(node, pick, place)
        place += pick.ndim
        own = [(label, n) for label, n in zip(letters[len(shape) - pick.ndim :], pick.shape, strict=True) if n != 1]
        labels, sizes = labels + "".join(label for label, _ in own), sizes + [n for _, n in own]
    rest = node.shape[place:]
    result = before + "".join(label for label in letters if label in labels)
    chosen = einsum(f"{labels}...->{result}...", reshape(node, (*sizes, *rest)))
    return reshape(chosen, (*node.shape[:first], *shape, *rest))


def _wrapped(node: Expression, picks: NDArray[Any], size: int) -> NDArray[Any]:
    wrong = (picks < -size) | (picks >= size)
    if wrong.any():
        raise InvalidGraphError(f"index {picks[wrong][0]} of {node!r} is out of range for an axis of size {size}")
    wrapped: NDArray[Any] = np.where(picks < 0, picks + size, picks)
    return wrapped


def _items(node: Expression, index: Any) -> list[Item]:  # noqa: ANN401  (as above)
    """What stands between the brackets, one item for an axis; those that are missing at the end are left out."""
    whole = index is None or index is Ellipsis or (isinstance(index, tuple) and not index)
    if not node.shape and not whole:
        raise InvalidGraphError(f"{node!r} is a scalar; it has no entries", node=node.name or None)
    given: list[Any] = []
    for item in index if isinstance(index, tuple) else (index,):
        given += _item(node, item)
    dots = [place for place, item in enumerate(given) if item is Ellipsis]
    taken = sum(item is not None and item is not Ellipsis for item in given)
    if len(dots) > 1 or taken > node.ndim:
        what = f"{index!r:.64} is no index of {node!r}, which has {node.ndim} axes"
        raise InvalidGraphError(what, node=node.name or None)
    for place in dots:
        given[place : place + 1] = [slice(None)] * (node.ndim - taken)
    axis = 0
    for place, item in enumerate(given):
        if isinstance(item, _Mask):
            if item.size != node.shape[axis]:
                what = f"mask of size {item.size} for axis {axis} of {node!r}, of size {node.shape[axis]}"
                raise InvalidGraphError(what, node=node.name or None)
            given[place] = item.picks
        if isinstance(item, int) and not -node.shape[axis] <= item < node.shape[axis]:
            raise InvalidGraphError(f"index {item} of {node!r} is out of range for axis {axis}", node=node.name or None)
        axis += item is not None
    return given


def _item(node: Expression, item: Any) -> list[Any]:  # noqa: ANN401  (as above)
    """The items that stand for one between the brackets: a mask is one for each of its axes."""
    if isinstance(item, Expression):
        if is_integer(item):
            return [item]
        made_of = [source.name for source in postorder(item) if source.name.endswith(AS_NUMBERS)]
        if made_of and not item.is_mask:
            name = made_of[0].removesuffix(AS_NUMBERS)
            raise InvalidGraphError(
                f'{node!r} indexed by {item!r}, computed of the row indices "{name}": computed numbers pick no rows; '
                f"index by {name} itself and arrange what it picks, x[{name}][1:] for x[{name}[1:]], or give what is "
                "computed as an input of its own"
            )
        raise ValueNeededError(
            f"{node!r} indexed by {item!r}: which entries it picks, and how many, depends on values that a graph does "
            "not have; write gw.where(mask, x, 0) and reduce that, or index by an input of dtype int64"
        )
    if item is None or item is Ellipsis:
        return [item]
    if isinstance(item, slice):
        try:
            item.indices(0)
        except Exception:  # noqa: BLE001  (whatever the caller's object raises)
            raise _no_index(node, item) from None
        return [item]
    try:
        array = np.asarray(item)
    except Exception:  # noqa: BLE001  (as above)
        raise _no_index(node, item) from None
    if array.dtype == np.bool_ and array.ndim:
        return [_Mask(size, picks) for size, picks in zip(array.shape, array.nonzero(), strict=True)]
    if array.dtype == np.bool_ or not holds_integers(array):
        raise _no_index(node, item)
    return [array.astype(np.int64) if array.size == 0 else array] if array.ndim else [int(array)]


def _no_index(node: Expression, item: object) -> InvalidGraphError:
    return InvalidGraphError(
        f"{item!r:.64} is no index of {node!r}; give integers, slices, ..., None, masks or arrays of integers",
        node=node.name or None,
    )


def _span(item: Item, size: int) -> tuple[int, int, int]:
    """Start, number and distance of the elements that an item leaves along an axis, before arrays pick from it."""
    if isinstance(item, int):
        return item % size, 1, 1
    if not isinstance(item, slice):
        return 0, size, 1
    span = range(size)[item]
    return (span.start, len(span), span.step) if span else (0, 0, 1)
