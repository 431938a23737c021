"""Rows of matrix products: as few and as large ones as the places of elements allow."""

from __future__ import annotations

from dataclasses import dataclass

from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.buffers import Role
from gradwire_server.engine.lowering.stage import Stage
from gradwire_server.engine.lowering.views import Loop, View

C, A, B = range(3)
ROWS, COLUMNS, INNER = range(3)

PART = 64
"""Rows of a weight's gradient that are computed at a time."""

Size = tuple[int, bool]
"""A length, and whether lanes multiply it."""


@dataclass(slots=True)
class _Product:
    """C = A B for a stack of matrices; rows of C are those of A, columns those of B, inner ones columns of A."""

    views: list[View]
    strides: list[tuple[int, int]]
    """From one row and from one column to the next, of each matrix."""
    sizes: list[Size]
    stacks: list[Loop]
    gradient: int
    """Which factor is a gradient, A or B; C if none is."""

    def transpose(self) -> None:
        """Swap the factors and transpose all: the product of these is the transposed product."""
        self.views = [self.views[i] for i in (C, B, A)]
        self.strides = [self.strides[i][::-1] for i in (C, B, A)]
        self.sizes = [self.sizes[i] for i in (COLUMNS, ROWS, INNER)]
        self.stacks = [loop._replace(strides=tuple(loop.strides[i] for i in (C, B, A))) for loop in self.stacks]
        self.gradient = (C, B, A)[self.gradient]

    def fold(self) -> None:
        """Make innermost stacks part of larger matrices, as far as strides allow."""
        while self.stacks:
            c, a, b = self.stacks[-1].strides
            if c == 0 and self._joins(INNER, (A, 1, a), (B, 0, b)):
                self._join(INNER, (A, 1, a), (B, 0, b))
            elif c and not b and self._joins(ROWS, (C, 0, c), (A, 0, a)):
                self._join(ROWS, (C, 0, c), (A, 0, a))
            elif c and not a and self._joins(COLUMNS, (C, 1, c), (B, 1, b)):
                self._join(COLUMNS, (C, 1, c), (B, 1, b))
            else:
                return

    def _joins(self, size: int, *axes: tuple[int, int, int]) -> bool:
        """Whether a stack continues an axis, in both of the matrices that have it, with these strides."""
        length, lanes = self.sizes[size]
        return not lanes and (length == 1 or all(self.strides[m][i] * length == stride for m, i, stride in axes))

    def _join(self, size: int, *axes: tuple[int, int, int]) -> None:
        loop, length = self.stacks.pop(), self.sizes[size][0]
        if length == 1:
            for matrix, axis, stride in axes:
                rows, columns = self.strides[matrix]
                self.strides[matrix] = (rows, stride) if axis else (stride, columns)
        self.sizes[size] = (length * loop.length, loop.lanes)

    def fits(self, matrix: int) -> bool:
        """Whether BLAS takes a matrix as it is: elements of a row or of a column stand one after another."""
        rows, columns = (
            self.sizes[{C: ROWS, A: ROWS, B: INNER}[matrix]],
            self.sizes[{C: COLUMNS, A: INNER, B: COLUMNS}[matrix]],
        )
        return (1, False) in {rows, columns} or 1 in self.strides[matrix]


def _product(stage: Stage, views: list[View], gradient: int) -> _Product:
    rank = max(len(view.shape) for view in views) - 2
    padded = [view.expanded((0,) * (rank + 2 - len(view.shape))) for view in views]
    loops = [Loop(1, True, tuple(view.distance for view in views))] if stage.lanes else []
    for axis in range(rank):
        length = max(view.shape[axis] for view in padded) if all(view.shape[axis] for view in padded) else 0
        steps = tuple(0 if view.shape[axis] == 1 else view.strides[axis] for view in padded)
        if length != 1:
            loops.append(Loop(length, False, steps))
    (m, k), n = padded[A].shape[-2:], padded[B].shape[-1]
    strides = [(view.strides[-2], view.strides[-1]) for view in padded]
    return _Product(views, strides, [(m, False), (n, False), (k, False)], loops, gradient)


def _folded(stage: Stage, views: list[View], gradient: int) -> _Product:
    product = _product(stage, views, gradient)
    product.fold()
    if not product.fits(C) or (product.strides[C][1] != 1 and product.sizes[COLUMNS] != (1, False)):
        product.transpose()
    return product


def multiply(stage: Stage, node: int, views: list[View], *, gradient: int = C, target: bool = False) -> None:
    """C = A B for matrix views; as a contribution to the gradient of a node, C is a view of where that goes.

    Args:
        stage: Where rows go.
        node: The node whose value or gradient C is.
        views: C, A and B, of rank 2 or more.
        gradient: Which factor is a gradient.
        target: Whether C is the node's gradient.
    """
    if 0 in views[C].shape:
        return
    product = _folded(stage, views, gradient)
    if not all(product.fits(matrix) for matrix in (A, B)):
        views = [views[C], *(stage.gathered(view) for view in views[1:])]
        product = _folded(stage, views, gradient)
    if not product.fits(C):
        # To storage of its own first, whose shape may have axes of size 1 that the node's has not.
        own, shape = stage.temporary(tuple(views[C].shape)), stage.checked.shape(node)
        multiply(stage, node, [own, *views[1:]], gradient=gradient)
        stage.back(node, Opcode.COPY, own.reshaped(shape), shape=shape)
        return
    added = summed = any(loop.strides[C] == 0 for loop in product.stacks)
    if target:
        _, first = stage.add_to(node, stage.checked.shape(node), summed=summed)
        added = not first
    elif summed:
        stage.writer.fill(views[C], views[C].size, 0.0, lanes=stage.lanes)
    flat = [i for pair in product.strides for i in pair]
    stage.writer.product(product.sizes, flat, product.views, product.stacks, added=added, gradient=product.gradient)


def whole_gradient(stage: Stage, node: int) -> View:
    """The gradient of a weight where it is returned."""
    view = stage.values[node]
    result = stage.buffers.attach(Role.GRADIENT, view.root, examples=False)
    return result._replace(shape=view.shape, strides=view.strides, offset=view.offset)


def defer(stage: Stage, node: int, views: list[View], gradient: int) -> None:
    """Have a product over all examples done when all tiles are, in parts that threads share."""
    product = _folded(stage, views, gradient)
    stage.buffers.deferred.append(stage.values[node].root)
    rows = product.sizes[ROWS][0]
    for first in range(0, rows, PART):
        sizes = [(min(PART, rows - first), False), *product.sizes[1:]]
        c, a, b = product.views
        moved = [
            c._replace(offset=c.offset + first * product.strides[C][0]),
            a._replace(offset=a.offset + first * product.strides[A][0]),
            b,
        ]
        flat = tuple(i for pair in product.strides for i in pair)
        stage.deferred.append((sizes, flat, moved, product.gradient))


def _matrices(a: View, b: View, c: View) -> tuple[View, View, View]:
    """Views with a vector on the left as a row and one on the right as a column, and of the result likewise."""
    if len(b.shape) == 1:
        c = c.expanded((len(c.shape),))
    if len(a.shape) == 1:
        c = c.expanded((len(c.shape) - 1,))
    return a.expanded((0,)) if len(a.shape) == 1 else a, b.expanded((1,)) if len(b.shape) == 1 else b, c


def _transposed(view: View) -> View:
    rank = len(view.shape)
    return view.permuted((*range(rank - 2), rank - 1, rank - 2))


def matmul(stage: Stage, node: int) -> None:
    """The product."""
    a, b = stage.operands(node)
    a, b, c = _matrices(a, b, stage.new(node))
    multiply(stage, node, [c, a, b])


def matmul_back(stage: Stage, node: int) -> None:
    """G B^T and A^T G, for the gradient G of the product."""
    first, second = stage.checked.graph.operands_of(node)
    views = stage.operands(node)
    g = stage.gradient(node)
    a, b, g = _matrices(views[0], views[1], g)
    weight = stage.weights.get(node, -1)
    if weight == first:
        target, _, _ = _matrices(whole_gradient(stage, first), b, g)
        defer(stage, first, [target, g, _transposed(b)], A)
    elif stage.wants(first):
        target, _, _ = _matrices(stage.target(first), b, g)
        multiply(stage, first, [target, g, _transposed(b)], gradient=A, target=True)
    if weight == second:
        _, target, _ = _matrices(a, whole_gradient(stage, second), g)
        defer(stage, second, [target, _transposed(a), g], B)
    elif stage.wants(second):
        _, target, _ = _matrices(a, stage.target(second), g)
        multiply(stage, second, [target, _transposed(a), g], gradient=B, target=True)


PATTERNS = {Opcode.MATMUL: (matmul, matmul_back)}
"""Forward and backward rows by opcode."""
