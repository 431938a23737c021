"""Many operations on scalars -> few nodes that hold them in columns, with the same meaning.

Operations on scalars that need nothing but each other, and what other nodes have computed before, are one node. Where
they alternate with others, such as products of matrices that scalars are made into, each turn has its own node; and in
each turn what depends on no example has one apart, so that it is computed once and not once for each; and so has what
only outputs need, for what does not lead to the loss has no gradient, not even one of zero.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from gradwire._expressions.node import Node
from gradwire.v1 import graph_pb2 as pb

PACKED_FROM = 256
"""Operations on scalars from which on they are packed; fewer are quick enough, and easier to read."""

SAVED = 0.5
"""Nodes that packing saves for each operation, at least. It saves few where most operations have names, or where a few
take turns with others."""

OPS = {
    "add": pb.SCALAR_OP_ADD,
    "mul": pb.SCALAR_OP_MUL,
    "max": pb.SCALAR_OP_MAX,
    "sigmoid": pb.SCALAR_OP_SIGMOID,
    "exp": pb.SCALAR_OP_EXP,
    "log": pb.SCALAR_OP_LOG,
    "tanh": pb.SCALAR_OP_TANH,
    "softplus": pb.SCALAR_OP_SOFTPLUS,
    "power": pb.SCALAR_OP_POWER,
    "sin": pb.SCALAR_OP_SIN,
    "cos": pb.SCALAR_OP_COS,
    "log1p": pb.SCALAR_OP_LOG1P,
    "expm1": pb.SCALAR_OP_EXPM1,
    "erf": pb.SCALAR_OP_ERF,
    "less": pb.SCALAR_OP_LESS,
    "equal": pb.SCALAR_OP_EQUAL,
    "select": pb.SCALAR_OP_SELECT,
}
"""What can be packed, by the names of its nodes."""

_ARITIES: dict[int, int] = dict.fromkeys(OPS.values(), 1)
"""How many arguments each has where none are told."""
_ARITIES.update({OPS[name]: 2 for name in ("add", "mul", "max", "less", "equal")})
_ARITIES[OPS["select"]] = 3
_CONSTANTS, _ELEMENTS = 1 << 40, 1 << 41
"""What marks the numbers of constants and of elements among the arguments of operations, until all are counted."""

_SMALL, _SPARSE = 64, 4
"""Elements up to which a tensor is an operand as it is, and also if one in so many is an argument. Of others, only
those that are arguments are taken."""

_PER_EXAMPLE, _ASIDE, _TURN = 1, 2, 4
"""A place is the number of a turn, four times, and 1 if it depends on examples, and 2 if the loss does not need it."""


def count(nodes: Iterable[Node]) -> int:
    """How many operations of these could be packed."""
    return sum(node.kind in OPS and not node.shape for node in nodes)


def pack(nodes: Sequence[Node], roots: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """The roots, with the operations on scalars that they need in packed nodes.

    Args:
        nodes: The roots and all that they need, operands first.
        roots: What a caller may ask for, the loss first.

    Returns:
        The roots, and the other nodes that have names.
    """
    packing = _Packing(roots)
    packing.add(nodes, _beside(nodes, roots[0]) if len(roots) > 1 else set())
    done = [packing.outcome(node) for node in roots]
    others = [packing.outcome(node) for node in packing.named]
    packing.finish()
    return done, others


class _Packing:
    def __init__(self, roots: Iterable[Node]) -> None:
        self.named: list[Node] = []
        """Packed operations that have names."""
        self._kept = {id(root) for root in roots}
        self._places: dict[int, int] = {}
        """Places of expressions, by id."""
        self._groups: defaultdict[int, _Group] = defaultdict(_Group)
        """By place."""
        self._outcomes: dict[int, Node] = {}
        """By id, what stands for an expression that is not in the new graph as it was."""

    def add(self, nodes: Iterable[Node], beside: Collection[int]) -> None:
        """Add nodes, operands first; of those ``beside``, by id, the loss needs none."""
        ops, places = OPS, self._places
        for node in nodes:
            number = ops.get(node.kind)
            if number is None or node.shape:
                self._add_other(node)
                continue
            operands = node.operands
            place = _ASIDE if id(node) in beside else 0
            for operand in operands:
                other = places[id(operand)]
                if other != place:
                    place = _later(place, other)
            places[id(node)] = place
            group = self._groups[place]
            codes, arguments = group.codes, group.arguments
            for operand in operands:
                code = codes.get(id(operand))
                if code is None:
                    code = codes[id(operand)] = self._outside(group, operand)
                arguments.append(code)
            if len(operands) > _ARITIES[number]:
                group.wide.append((len(group.ops), len(operands)))
            elif node.attributes:
                group.exponents.append(node.attributes["exponent"])
            codes[id(node)] = len(group.ops)
            group.ops.append(number)
            if node.name:
                self.named.append(node)

    def outcome(self, node: Node) -> Node:
        """What stands for the node in the new graph."""
        found = self._outcomes.get(id(node))
        if found is None and _is_packed(node):
            group = self._groups[self._places[id(node)]]
            index = Node("constant", (), value=np.array(group.result(node), np.int64))
            found = Node("take", (), operands=(group.node, index), name=node.name)
            self._outcomes[id(node)] = found
        return node if found is None else found

    def finish(self) -> None:
        """Give the packed nodes their contents."""
        for group in self._groups.values():
            group.close()
        for group in self._groups.values():
            group.finish()

    def _add_other(self, node: Node) -> None:
        place = _PER_EXAMPLE if node.attributes.get("per_example") else 0
        changed = False
        for operand in node.operands:
            packed = _is_packed(operand)
            place = _later(place, self._places[id(operand)] + _TURN * packed)
            changed = changed or packed or id(operand) in self._outcomes
        self._places[id(node)] = place
        if changed:
            self._outcomes[id(node)] = Node(
                node.kind,
                node.shape,
                operands=tuple(map(self.outcome, node.operands)),
                attributes=node.attributes,
                name=node.name,
            )

    def _outside(self, group: _Group, operand: Node) -> int:
        """The code of an argument that is no operation of its group."""
        tensor, index = self._element(operand)
        if tensor.value is not None and not self._is_kept(tensor):
            return group.constant(tensor.value.flat[index].tobytes())
        if _is_packed(tensor):
            other = self._groups[self._places[id(tensor)]]
            return group.element(other.node, other.result(tensor))
        return group.element(self.outcome(tensor), index)

    def _element(self, node: Node) -> tuple[Node, int]:
        """The tensor that a scalar is an element of, and which one, row-major."""
        index = 0
        while not self._is_kept(node):
            rows = node.operands[1].value if node.kind == "take" else None
            if rows is not None:
                axis, node = node.attributes.get("axis", 0), node.operands[0]
                inner, size = prod(node.shape[axis + 1 :]), node.shape[axis]
                outer, entry, column = index // (rows.size * inner), index // inner % rows.size, index % inner
                index = (outer * size + int(rows.flat[entry]) % size) * inner + column
            elif node.kind == "slice":
                own, [source] = node.attributes, node.operands
                place, scale = 0, 1
                for axis in reversed(range(node.ndim)):
                    index, along = divmod(index, node.shape[axis])
                    place += (own["starts"][axis] + own["steps"][axis] * along) * scale
                    scale *= source.shape[axis]
                node, index = source, place
            elif node.kind == "reshape":
                [node] = node.operands
            elif node.kind == "transpose":
                [source] = node.operands
                where = dict(zip(node.attributes["axes"], np.unravel_index(index, node.shape), strict=True))
                index = int(np.ravel_multi_index([where[axis] for axis in range(source.ndim)], source.shape))
                node = source
            else:
                break
        return node, index

    def _is_kept(self, node: Node) -> bool:
        return bool(node.name) or id(node) in self._kept


class _Group:
    """The operations of a place, which become one node."""

    def __init__(self) -> None:
        self.node = Node("scalars", ())
        """The node. What is in it is not known before all operations are."""
        self.ops = array("i")
        self.arguments = array("q")
        """Arguments of all operations, as codes: numbers of operations, or of constants and elements, with marks."""
        self.codes: dict[int, int] = {}
        """Codes of expressions, by id."""
        self.wide: list[tuple[int, int]] = []
        """Operations of more arguments than usual, and of how many."""
        self.exponents = array("d")
        self._constants: dict[bytes, int] = {}
        """Numbers of constants by their bits, for 0 is not -0."""
        self._tensors: dict[int, tuple[int, Node]] = {}
        """Numbers of operands, by id."""
        self._elements = (array("q"), array("q"))
        """The numbers of the tensors that elements are in, and where in them."""
        self._results: dict[int, int] = {}
        """By operation, where the result has it."""

    def constant(self, bits: bytes) -> int:
        """The code of a constant."""
        return self._constants.setdefault(bits, len(self._constants)) + _CONSTANTS

    def element(self, tensor: Node, index: int) -> int:
        """The code of an element of a tensor."""
        number, _ = self._tensors.setdefault(id(tensor), (len(self._tensors), tensor))
        numbers, indices = self._elements
        numbers.append(number)
        indices.append(index)
        return len(indices) - 1 + _ELEMENTS

    def result(self, node: Node) -> int:
        """Where the result has the value of an operation of this group."""
        return self._results.setdefault(self.codes[id(node)], len(self._results))

    def close(self) -> None:
        """Let the node have the shape of all results that are wanted."""
        self.node.shape = (len(self._results),)

    def finish(self) -> None:
        """Put everything in its position."""
        tensors, elements = self._operands()
        constants = sum(tensor.size for tensor in tensors)
        operations = constants + len(self._constants)
        codes = np.array(self.arguments, np.int64)
        positions = np.where(codes < _CONSTANTS, codes + operations, codes - _CONSTANTS + constants)
        outside = codes >= _ELEMENTS
        positions[outside] = elements[codes[outside] - _ELEMENTS]
        self.node.operands = tensors
        self.node.attributes = {
            "constants": np.frombuffer(b"".join(self._constants)).tolist(),
            "ops": self.ops.tolist(),
            "arities": self._arities(),
            "arguments": positions.tolist(),
            "exponents": self.exponents.tolist(),
            "results": [operations + operation for operation in self._results],
        }

    def _operands(self) -> tuple[tuple[Node, ...], NDArray[np.int64]]:
        """The operands, and the positions of the elements in them."""
        numbers, indices = (np.array(column, np.int64) for column in self._elements)
        positions = np.empty_like(indices)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(self._tensors)))
        tensors: list[Node] = []
        start = 0
        for (_, tensor), own in zip(self._tensors.values(), np.split(order, ends)[:-1], strict=True):
            operand, positions[own] = _taken(tensor, indices[own])
            positions[own] += start
            start += operand.size
            tensors.append(operand)
        return tuple(tensors), positions

    def _arities(self) -> list[int]:
        if not self.wide:
            return []
        arities = [_ARITIES[number] for number in self.ops]
        for operation, found in self.wide:
            arities[operation] = found
        return arities


def _taken(tensor: Node, indices: NDArray[np.int64]) -> tuple[Node, NDArray[np.int64]]:
    """A tensor that has these elements of another, and where it has them."""
    if tensor.size <= max(_SMALL, _SPARSE * len(indices)):
        return tensor, indices
    rows, places = np.unique(indices, return_inverse=True)
    if tensor.ndim != 1:
        tensor = Node("reshape", (tensor.size,), operands=(tensor,), attributes={"shape": (tensor.size,)})
    index = Node("constant", rows.shape, value=rows)
    return Node("take", rows.shape, operands=(tensor, index)), places


def _beside(nodes: Sequence[Node], loss: Node) -> set[int]:
    """The ids of the nodes, which come operands first, that the loss does not need."""
    needed = {id(loss)}
    for node in reversed(nodes):
        if id(node) in needed:
            needed.update(map(id, node.operands))
    return {id(node) for node in nodes} - needed


def _is_packed(node: Node) -> bool:
    return node.kind in OPS and not node.shape


def _later(place: int, other: int) -> int:
    """Where something is that needs what is at both places."""
    return max(place & -_TURN, other & -_TURN) | ((place | other) & (_TURN - 1))
