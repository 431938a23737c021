"""Expressions -> the graph of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import Node, checked_name, postorder
from gradwire._graphs import packing
from gradwire.v1 import graph_pb2, tensor_pb2

Outputs = Mapping[str, Expression] | Sequence[Expression | str] | str | None
"""Outputs of an expression (named expressions, or expressions by name), or of a graph (names of its nodes)."""

TIES = {"zero": graph_pb2.TIE_RULE_ZERO, "split": graph_pb2.TIE_RULE_SPLIT}


def graph(loss: Expression, *, ties: str = "zero", outputs: Outputs = None) -> graph_pb2.Graph:
    """The graph of a loss, as the contract has it.

    Args:
        loss: A scalar expression.
        ties: ``"zero"``: at a tie of a maximum no operand gets a gradient; ``"split"``: all get equal shares.
        outputs: Further nodes to keep in the graph: expressions by name, or a sequence of named ones.

    Raises:
        InvalidGraphError: The loss is no scalar, two different sources have one name, or a choice is unknown.
    """
    if not isinstance(loss, Expression | int | float | np.number | np.ndarray):
        advice = "; client.value_and_grad takes a function, and traces it" if callable(loss) else ""
        raise InvalidGraphError(f"gw.graph takes a scalar expression; found {type(loss).__name__}{advice}")
    return build_graph(as_expression(loss), ties, output_names(outputs))


def build_graph(
    loss: Node,
    ties: str,
    outputs: Mapping[str, Node],
    sources: Iterable[Node] = (),
    *,
    packed: bool = True,
) -> graph_pb2.Graph:
    """``graph``, with sources that are kept although the loss may not need them.

    Many operations on scalars are packed, unless every one is to have a node of its own.
    """
    if loss.shape != ():
        raise InvalidGraphError(
            f"the loss {loss!r} is no scalar for one example; reduce it first, with gw.sum or gw.mean", node=loss.name
        )
    if not isinstance(ties, str) or ties not in TIES:  # type: ignore[redundant-expr]  # as a caller gives it
        raise InvalidGraphError(f"ties={ties!r} is unknown; choose {' or '.join(map(repr, TIES))}")
    roots = [loss, *outputs.values()]
    nodes = list(postorder(*sources, *roots))
    operations = packing.count(nodes) if packed else 0
    if operations >= packing.PACKED_FROM:
        same, named = packing.pack(nodes, roots)
        fewer = list(postorder(*sources, *same, *named))
        if len(nodes) - len(fewer) >= operations * packing.SAVED:
            roots, nodes = same, fewer
    builder = _Builder({id(node): name for name, node in zip(outputs, roots[1:], strict=True)})
    for node in nodes:
        builder.add(node)
    return graph_pb2.Graph(nodes=builder.nodes, loss=builder.places[id(roots[0])], ties=TIES[ties])


def output_names(outputs: Outputs) -> dict[str, Expression]:
    """The outputs by name."""
    if outputs is None:
        return {}
    given: list[tuple[str, Any]]
    if isinstance(outputs, Mapping):
        given = [(checked_name(name), node) for name, node in outputs.items()]
    elif not isinstance(outputs, Sequence):
        raise InvalidGraphError(f"outputs={outputs!r}: give expressions by name, or a list of named ones")
    else:
        strings = [outputs] if isinstance(outputs, str) else [node for node in outputs if isinstance(node, str)]
        if strings:
            raise InvalidGraphError(
                f'output "{strings[0]}" is a string; beside an expression, outputs are expressions with a name'
            )
        given = [(getattr(node, "name", ""), node) for node in outputs]
    named: dict[str, Expression] = {}
    first: dict[int, str] = {}
    for name, node in given:
        if not isinstance(node, Expression):
            raise InvalidGraphError(f"output {node!r:.64} is {type(node).__name__}; expected an expression")
        if not name:
            raise InvalidGraphError(f"output {node!r} has no name; give one: expression.named('...')")
        if node.name not in ("", name):
            raise InvalidGraphError(
                f'output "{name}" has the name "{node.name}" already; ask for it by that', node=name
            )
        if named.get(name, node) is not node:
            raise InvalidGraphError(f'two different outputs are named "{name}"; names are unique', node=name)
        # A node has one name. An expression that is asked for by several is as many nodes.
        named[name] = node if first.setdefault(id(node), name) == name else node.named(name)
    return named


class _Builder:
    """Collects nodes in topological order."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.nodes: list[graph_pb2.Node] = []
        self.places: dict[int, int] = {}
        """Index of each expression's node, by the expression's id; the caller keeps all of them alive."""
        self._names = names
        self._sources: dict[str, tuple[int, Node]] = {}
        self._constants: dict[tuple[object, ...], int] = {}

    def add(self, node: Node) -> None:
        """Add a node whose operands were added before."""
        self.places[id(node)] = self._place(node)

    def _place(self, node: Node) -> int:
        name = self._names.get(id(node), node.name)
        if node.kind in ("parameter", "input"):
            if name in self._sources:
                index, first = self._sources[name]
                same = (first.kind, first.shape, first.attributes) == (node.kind, node.shape, node.attributes)
                if not same:
                    raise InvalidGraphError(
                        f'two different sources are named "{name}": {first.kind} of shape {first.shape} and '
                        f"{node.kind} of shape {node.shape}; names are unique",
                        node=name,
                    )
                return index
            self._sources[name] = (len(self.nodes), node)
        elif node.value is not None and not name:
            key = (node.shape, node.value.dtype.str, node.value.tobytes())
            if key not in self._constants:
                self._constants[key] = self._append(node, name)
            return self._constants[key]
        return self._append(node, name)

    def _append(self, node: Node, name: str) -> int:
        message = graph_pb2.Node(name=name)
        box = getattr(message, node.kind)
        box.SetInParent()
        if node.value is not None:
            box.value.CopyFrom(_tensor(node.value))
        elif node.kind in ("parameter", "input"):
            box.shape.extend(node.shape)
        else:
            box.operands.extend([self.places[id(operand)] for operand in node.operands])
        for field, value in node.attributes.items():
            if field == "dtype":
                box.dtype = tensor_pb2.DTYPE_INT64
            elif isinstance(value, tuple | list):
                getattr(box, field).extend(value)
            else:
                setattr(box, field, value)
        self.nodes.append(message)
        return len(self.nodes) - 1


def _tensor(value: np.ndarray[Any, Any]) -> tensor_pb2.Tensor:
    integer = value.dtype == np.int64
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DTYPE_INT64 if integer else tensor_pb2.DTYPE_FLOAT64,
        shape=value.shape,
        raw=value.astype("<i8" if integer else "<f8", copy=False).tobytes(),
    )
