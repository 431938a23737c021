"""Passes over the operations of a swarm of scalars, one after another, as no operation on arrays can make them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_server.engine.kernels.caching import compiled


@compiled
def mark(starts: Any, arguments: Any, first: int, marked: Any) -> None:
    """Mark every position that a marked one depends on.

    Args:
        starts: Where the arguments of each operation begin among all, and where they end.
        arguments: Positions.
        first: Position of the first operation.
        marked: For each position.
    """
    for k in range(len(starts) - 2, -1, -1):
        if marked[first + k]:
            for i in range(starts[k], starts[k + 1]):
                marked[arguments[i]] = True


@compiled
def reach(starts: Any, arguments: Any, first: int, marked: Any) -> None:
    """Mark every operation that depends on a marked position.

    Args:
        starts: As for ``mark``; so are arguments, first and marked.
        arguments: As said.
        first: As said.
        marked: As said.
    """
    for k in range(len(starts) - 1):
        for i in range(starts[k], starts[k + 1]):
            if marked[arguments[i]]:
                marked[first + k] = True


@compiled
def count_levels(starts: Any, arguments: Any, first: int, levels: Any) -> None:
    """Set the level of each position: the length of the longest path that leads to it; ``levels`` come as zeros."""
    for k in range(len(starts) - 1):
        level = 0
        for i in range(starts[k], starts[k + 1]):
            level = max(level, levels[arguments[i]])
        levels[first + k] = level + 1


@compiled
def arrange(opcodes: Any, starts: Any, arguments: Any, first: int, marked: Any, opcode_count: int, chained: Any) -> Any:
    """Put the marked operations into an order of few groups of one opcode.

    Opcodes come up in turn, round after round, and an operation is done as soon as its opcode comes up after its
    arguments are there. Where a group runs strictly from its first operation to its last, as ``chained`` says for each
    opcode, an operation may even follow on an argument in its own group.

    Args:
        opcodes: For each operation.
        starts: As for ``mark``; so are arguments, first and marked.
        arguments: As said.
        first: As said.
        marked: As said.
        opcode_count: How many opcodes there are.
        chained: For each opcode, whether a group of it may depend on itself.

    Returns:
        For each place the operation; for each group its opcode, and where it begins and ends; for each position its
        place, that of operands and constants being the same.
    """
    count = len(opcodes)
    turns = np.empty(first + count, np.int32)
    turns[:first] = -1
    rounds = 0
    for k in range(count):
        if not marked[first + k]:
            continue
        latest = np.int32(-1)
        for i in range(starts[k], starts[k + 1]):
            latest = max(latest, turns[arguments[i]])
        opcode = opcodes[k]
        last_round = latest // opcode_count if latest >= 0 else 0
        turn = last_round * opcode_count + opcode
        if turn < latest or (turn == latest and not chained[opcode]):
            turn += opcode_count
        turns[first + k] = turn
        rounds = max(rounds, turn // opcode_count + 1)
    # Sorted by counting, first by opcode and then, keeping that order, by round.
    by_opcode = np.zeros(opcode_count + 1, np.int32)
    by_round = np.zeros(rounds + 1, np.int32)
    for k in range(count):
        if marked[first + k]:
            by_opcode[opcodes[k] + 1] += 1
            by_round[turns[first + k] // opcode_count + 1] += 1
    for i in range(opcode_count):
        by_opcode[i + 1] += by_opcode[i]
    for i in range(rounds):
        by_round[i + 1] += by_round[i]
    live = by_opcode[opcode_count]
    half = np.empty(live, np.int32)
    for k in range(count):
        if marked[first + k]:
            half[by_opcode[opcodes[k]]] = k
            by_opcode[opcodes[k]] += 1
    order = np.empty(live, np.int32)
    for i in range(live):
        k = half[i]
        own = turns[first + k] // opcode_count
        order[by_round[own]] = k
        by_round[own] += 1
    # Places, in the same array: turns are not needed any more, but to tell groups apart.
    groups = 0
    last = np.int32(-1)
    for i in range(live):
        turn = turns[first + order[i]]
        groups += turn != last
        last = turn
    table = np.empty((groups, 3), np.int32)
    group = -1
    last = np.int32(-1)
    for i in range(live):
        k = order[i]
        turn = turns[first + k]
        if turn != last:
            group += 1
            table[group, 0] = opcodes[k]
            table[group, 1] = i
            last = turn
        table[group, 2] = i + 1
    for p in range(first):
        turns[p] = p
    for i in range(live):
        turns[first + order[i]] = first + i
    return order, table, turns


@compiled
def tabulate(order: Any, opcodes: Any, starts: Any, arguments: Any, places: Any, listing: int) -> Any:
    """Where the arguments of the operations in this order are: two places, or from where to where they are listed.

    Args:
        order: Operations.
        opcodes: For each operation; from ``listing`` on they take more than two arguments.
        starts: As for ``mark``.
        arguments: As for ``mark``.
        places: For each position.
        listing: As said.
    """
    listed = 0
    for k in order:
        if opcodes[k] >= listing:
            listed += starts[k + 1] - starts[k]
    a, b, lists = np.empty(len(order), np.uint32), np.empty(len(order), np.uint32), np.empty(listed, np.uint32)
    end = 0
    for i in range(len(order)):
        k = order[i]
        start, stop = starts[k], starts[k + 1]
        if opcodes[k] >= listing:
            a[i] = end
            for j in range(start, stop):
                lists[end] = places[arguments[j]]
                end += 1
            b[i] = end
        else:
            a[i] = places[arguments[start]]
            b[i] = places[arguments[stop - 1]]
    return a, b, lists


@compiled
def find_scalars(codes: Any, starts: Any, operands: Any, found: Any, start: int) -> int:
    """Mark the nodes from ``start`` on that are operations on scalars, up to the first that is not; returns that one.

    Args:
        codes: For each node what it does, if it can do it to scalars; else 0.
        starts: Where the operands of each node begin among all, and where they end.
        operands: Indices of nodes, or what is none.
        found: For each node, whether it is a scalar; of those before ``start`` that is known.
        start: As said.
    """
    for k in range(start, len(codes)):
        if codes[k] == 0:
            return k
        for i in range(starts[k], starts[k + 1]):
            if operands[i] < 0 or operands[i] >= k or not found[operands[i]]:
                return k
        found[k] = True
    return len(codes)


@compiled
def count_turns(starts: Any, operands: Any, packed: Any, turns: Any) -> None:
    """Set for each node how often packed operations and others take turns on the way to it; ``turns`` come as zeros.

    Args:
        starts: As for ``find_scalars``; so are operands.
        operands: As said.
        packed: For each node, whether it is packed.
        turns: As said.
    """
    for k in range(len(starts) - 1):
        turn = 0
        for i in range(starts[k], starts[k + 1]):
            turn = max(turn, turns[operands[i]] + (packed[operands[i]] and not packed[k]))
        turns[k] = turn
