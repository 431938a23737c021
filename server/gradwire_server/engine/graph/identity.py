"""The identity of a graph: SHA-256 of its canonical columns, the same on every replica and however it was packed."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.canonical import NONE, Canonical
from gradwire_server.engine.graph.graph import Attributes, Content, Graph, Input, Parameter
from gradwire_server.engine.graph.opcodes import COMPUTING, Opcode, marks

FORM = "gradwire graph 2"
"""Names the form itself, so that a change of it changes every id."""

ADD, ELEMENT = int(Opcode.ADD), int(Opcode.ELEMENT)

_COMPUTING = marks(COMPUTING)


def graph_id(graph: Graph, form: Canonical, checkpoint: Checkpoint) -> str:
    """The id of a checked graph, by its canonical form: 64 hexadecimal digits.

    Nodes have the numbers of a depth-first postorder: from the loss, then, in the order in which they were sent, from
    operations that compute, nodes with names, and nodes that no other has as an operand. Nodes that the canonical form
    looks through have none. Outputs are asked for by index, so the sent indices of named operations and constants
    count.
    """
    checkpoint()
    numbers, order = np.full(len(graph), NONE, np.int32), np.empty(len(graph), np.int32)
    count = postorder(np.array([graph.loss]), graph.starts, graph.operands, form, numbers, order, 0)
    named = np.fromiter(graph.names, np.int64, len(graph.names))
    roots = np.ones(len(graph), np.bool_)
    roots[graph.operands] = False
    roots[named] = True
    roots |= _COMPUTING[form.opcodes]
    count = postorder(np.flatnonzero(roots), graph.starts, graph.operands, form, numbers, order, count)
    order = order[:count]
    arities, edges = tabulate(graph.starts, graph.operands, form, numbers, order)
    checkpoint()
    named = named[np.argsort(numbers[form.forward[named]], kind="stable")]
    sent = np.arange(len(graph)) if graph.origins is None else graph.origins.sent
    asked = np.where(graph.opcodes[named] <= Opcode.INPUT, NONE, sent[named]).astype(np.int32)
    facts: dict[int, Content | Attributes] = {**graph.contents, **graph.attributes}
    telling = np.fromiter(facts, np.int64, len(facts))
    telling = telling[(numbers[telling] != NONE) & (form.opcodes[telling] == graph.opcodes[telling])]
    telling = telling[np.argsort(numbers[telling])]
    loss = int(numbers[form.forward[graph.loss]])
    digest = sha256(repr((FORM, graph.ties.value, loss, count, len(edges), len(named), len(telling))).encode())
    for column in (form.opcodes[order], arities, edges, form.place[order], numbers[form.forward[named]], asked):
        digest.update(column.astype(column.dtype.newbyteorder("<"), copy=False).data)
    for node in checked(named.tolist(), checkpoint):
        digest.update(f"{graph.names[node]}\n".encode())
    for node in checked(telling.tolist(), checkpoint):
        digest.update(repr((int(numbers[node]), _plain(facts[node]))).encode())
    return digest.hexdigest()


def _plain(fact: Content | Attributes) -> object:
    if isinstance(fact, Parameter):
        return "parameter", fact.name, fact.shape
    if isinstance(fact, Input):
        return "input", fact.name, fact.shape, fact.per_example, fact.integer
    if isinstance(fact, np.ndarray):
        return fact.shape, fact.dtype.str, sha256(np.ravel(fact).data).hexdigest()
    return sorted(fact.items())


@compiled
def postorder(
    roots: NDArray[np.int64],
    starts: NDArray[np.int64],
    operands: NDArray[np.int32],
    form: Canonical,
    numbers: NDArray[np.int32],
    order: NDArray[np.int32],
    count: int,
) -> int:
    """Number nodes from ``count`` on, operands first, and list them; returns how many are numbered then.

    Args:
        roots: Nodes to begin with, in this order.
        starts: [nodes + 1], where the operands of each node begin.
        operands: [edges].
        form: What stands for each node.
        numbers: [nodes], NONE for nodes that have none yet.
        order: [nodes], by number.
        count: Nodes that have numbers already.
    """
    path, passed = np.empty(len(numbers), np.int32), np.empty(len(numbers), np.int32)
    for root in roots:
        depth = 0
        path[0], passed[0] = form.forward[root], 0
        if numbers[path[0]] != NONE:
            continue
        while depth >= 0:
            node, i = path[depth], passed[depth]
            if i == _arity(node, starts, form.opcodes):
                numbers[node], order[count] = count, node
                count += 1
                depth -= 1
                continue
            passed[depth] += 1
            operand = form.base[node] if form.opcodes[node] == ELEMENT else form.forward[operands[starts[node] + i]]
            if numbers[operand] == NONE:
                depth += 1
                path[depth], passed[depth] = operand, 0
    return count


@compiled
def tabulate(
    starts: NDArray[np.int64],
    operands: NDArray[np.int32],
    form: Canonical,
    numbers: NDArray[np.int32],
    order: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each node in this order how many operands it has; and the numbers of all operands, one after another."""
    arities, count = np.empty(len(order), np.int32), 0
    for k in range(len(order)):
        arities[k] = _arity(order[k], starts, form.opcodes)
        count += arities[k]
    edges, end = np.empty(count, np.int32), 0
    for k in range(len(order)):
        node = order[k]
        for i in range(arities[k]):
            operand = form.base[node] if form.opcodes[node] == ELEMENT else form.forward[operands[starts[node] + i]]
            edges[end] = numbers[operand]
            end += 1
    return arities, edges


@compiled
def _arity(node: int, starts: NDArray[np.int64], opcodes: NDArray[np.int8]) -> int:
    if opcodes[node] < ADD:
        return 0
    return 1 if opcodes[node] == ELEMENT else starts[node + 1] - starts[node]
