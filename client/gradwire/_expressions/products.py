"""Sums of products over axes, as matrix products: tensordot, einsum and their like."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from math import prod

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import matmul, mul, reshape, take, transpose
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.shapes import axes_of, integers
from gradwire._numbers import whole


def dot(a: Operand, b: Operand) -> Expression:
    """Sums of products over the last axis of ``a`` and the last but one of ``b``, as ``np.dot``; scalars scale."""
    left, right = as_expression(a), as_expression(b)
    if not left.shape or not right.shape:
        return mul(left, right)
    return matmul(left, right) if right.ndim <= 2 else tensordot(left, right, (-1, -2))


def outer(a: Operand, b: Operand) -> Expression:
    """The product of each element of one with each of the other, as a matrix."""
    left, right = as_expression(a), as_expression(b)
    return mul(reshape(left, (left.size, 1)), reshape(right, (1, right.size)))


def inner(a: Operand, b: Operand) -> Expression:
    """Sums of products over the last axes of both."""
    left, right = as_expression(a), as_expression(b)
    return tensordot(left, right, (-1, -1)) if left.shape and right.shape else mul(left, right)


def tensordot(a: Operand, b: Operand, axes: int | Sequence[int | Sequence[int]] = 2) -> Expression:
    """Sums of products over axes: the last of ``a`` with as many first ones of ``b``, or those that are named."""
    left, right = as_expression(a), as_expression(b)
    count = whole(axes)
    if count is not None and 0 <= count <= min(left.ndim, right.ndim):
        pairs = [tuple(range(left.ndim - count, left.ndim)), tuple(range(count))]
    else:
        given = [integers(own) for own in axes] if isinstance(axes, Sequence) and len(axes) == 2 else [None]
        if any(own is None for own in given):
            what = f"tensordot of {left!r} and {right!r} with axes={axes!r:.64}; give a number or a pair of lists"
            raise InvalidGraphError(what)
        pairs = [axes_of(node, tuple(own or ())) for node, own in zip((left, right), given, strict=True)]
    here, there = pairs
    sizes = [left.shape[axis] for axis in here]
    if sizes != [right.shape[axis] for axis in there]:
        raise InvalidGraphError(f"tensordot of {left!r} and {right!r}: the sizes of axes {here} and {there} differ")
    mine = [axis for axis in range(left.ndim) if axis not in here]
    theirs = [axis for axis in range(right.ndim) if axis not in there]
    shape = [left.shape[axis] for axis in mine] + [right.shape[axis] for axis in theirs]
    rows = reshape(transpose(left, (*mine, *here)), (prod(left.shape[axis] for axis in mine), prod(sizes)))
    columns = reshape(transpose(right, (*there, *theirs)), (prod(sizes), prod(right.shape[axis] for axis in theirs)))
    return reshape(matmul(rows, columns), shape)


def einsum(subscripts: str, *operands: Operand) -> Expression:
    """Sums of products by Einstein's convention, as ``np.einsum``, operands taken from left to right."""
    if not isinstance(subscripts, str) or not operands:  # type: ignore[redundant-expr]  # as a caller gives it
        raise InvalidGraphError(f'einsum takes subscripts such as "ij,j->i" and operands; found {subscripts!r:.64}')
    nodes = list(map(as_expression, operands))
    inputs, output = _subscripts(subscripts, nodes)
    sizes: dict[str, int] = {}
    for node, labels in zip(nodes, inputs, strict=True):
        for label, size in zip(labels, node.shape, strict=True):
            if sizes.setdefault(label, size) != size:
                raise InvalidGraphError(f'einsum "{subscripts}": {label} has sizes {sizes[label]} and {size}')
    terms = [_diagonal(node, labels) for node, labels in zip(nodes, inputs, strict=True)]
    node, labels = terms[0]
    for place, (other, own) in enumerate(terms[1:], start=1):
        kept = set(output).union(*(rest for _, rest in terms[place + 1 :]))
        one, another = _summed(node, labels, kept | set(own)), _summed(other, own, kept | set(labels))
        node, labels = _contracted(*one, *another, kept)
    node, labels = _summed(node, labels, set(output))
    return transpose(node, [labels.index(label) for label in output])


def _subscripts(subscripts: str, nodes: Sequence[Expression]) -> tuple[list[str], str]:
    """Labels of the axes of each operand, and of the result, without ellipses."""
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(nodes):
        raise InvalidGraphError(f'einsum "{subscripts}" is for {len(inputs)} operands; found {len(nodes)}')
    spare = [label for label in string.ascii_letters if label not in text]
    extra = max((node.ndim - len(own) + 3 for node, own in zip(nodes, inputs, strict=True) if "..." in own), default=0)
    hidden = "".join(spare[:extra])
    for place, (node, own) in enumerate(zip(nodes, inputs, strict=True)):
        if "..." in own:
            inputs[place] = own.replace("...", hidden[extra - (node.ndim - len(own) + 3) :], 1)
        if len(inputs[place]) != node.ndim or not set(inputs[place]) <= set(string.ascii_letters):
            raise InvalidGraphError(f'einsum "{subscripts}": "{own}" does not name the {node.ndim} axes of {node!r}')
    if arrow:
        output = output.replace("...", hidden, 1)
    else:
        counts = Counter("".join(inputs))
        output = hidden + "".join(sorted(label for label in counts if counts[label] == 1 and label not in hidden))
    if len(set(output)) != len(output) or not set(output) <= set("".join(inputs)):
        raise InvalidGraphError(f'einsum "{subscripts}": the result has labels of operands, each once')
    return inputs, output


def _diagonal(node: Expression, labels: str) -> tuple[Expression, str]:
    """The elements whose axes of one label have one index, each label once."""
    for label in {label for label in labels if labels.count(label) > 1}:
        axes = [axis for axis, own in enumerate(labels) if own == label]
        rest = [axis for axis in range(node.ndim) if axis not in axes]
        size, count = node.shape[axes[0]], len(axes)
        shape = [node.shape[axis] for axis in rest]
        flat = reshape(transpose(node, (*rest, *axes)), (*shape, size**count))
        places = np.arange(size) * sum(size**power for power in range(count))
        node, labels = take(flat, places, len(rest)), "".join(labels[axis] for axis in rest) + label
    return node, labels


def _summed(node: Expression, labels: str, kept: set[str]) -> tuple[Expression, str]:
    """The sum over the axes whose labels nothing else has."""
    gone = tuple(axis for axis, label in enumerate(labels) if label not in kept)
    return sum_over(node, gone) if gone else node, "".join(label for label in labels if label in kept)


def _contracted(left: Expression, mine: str, right: Expression, theirs: str, kept: set[str]) -> tuple[Expression, str]:
    """The product of two, summed over what both have and nothing else needs, as a stack of matrix products."""
    both = [label for label in mine if label in theirs]
    batch, inner_ = [label for label in both if label in kept], [label for label in both if label not in kept]
    rows, columns = [label for label in mine if label not in both], [label for label in theirs if label not in both]
    sizes = {**dict(zip(mine, left.shape, strict=True)), **dict(zip(theirs, right.shape, strict=True))}
    counts = [prod(sizes[label] for label in own) for own in (batch, rows, inner_, columns)]
    stack = [counts[0]] if batch else []
    first = transpose(left, [mine.index(label) for label in batch + rows + inner_])
    second = transpose(right, [theirs.index(label) for label in batch + inner_ + columns])
    first, second = reshape(first, (*stack, counts[1], counts[2])), reshape(second, (*stack, counts[2], counts[3]))
    product = matmul(first, second) if inner_ else mul(first, second)
    labels = "".join(batch + rows + columns)
    return reshape(product, [sizes[label] for label in labels]), labels
