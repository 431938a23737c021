"""Passes over the operations of a swarm of scalars, one after another, as no operation on arrays can make them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gradwire_server.engine.kernels.caching import compiled
from gradwire_server.engine.kernels.opcodes import Run

NONE, RANGES, FIRST, SECOND = map(int, Run)


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
def tabulate(order: Any, opcodes: Any, starts: Any, arguments: Any, places: Any, listing: int, summing: int) -> Any:
    """Where the arguments of the operations in this order are.

    Args:
        order: Operations.
        opcodes: For each operation; from ``listing`` on they take more than two arguments, and ``summing`` is that
            of which arguments that stand one after another need no list.
        starts: As for ``mark``.
        arguments: As for ``mark``.
        places: For each position.
        listing: An opcode.
        summing: An opcode.

    Returns:
        For each operation the places of its two arguments, or from where to where they are listed, or stand; the list;
        and for each operation whether they stand there.
    """
    listed = 0
    standing = np.zeros(len(order), np.bool_)
    for i in range(len(order)):
        k = order[i]
        if opcodes[k] < listing:
            continue
        standing[i] = opcodes[k] == summing
        for j in range(starts[k] + 1, starts[k + 1]):
            standing[i] &= places[arguments[j]] == places[arguments[j - 1]] + 1
        if not standing[i]:
            listed += starts[k + 1] - starts[k]
    a, b, lists = np.empty(len(order), np.uint32), np.empty(len(order), np.uint32), np.empty(listed, np.uint32)
    end = 0
    for i in range(len(order)):
        k = order[i]
        start, stop = starts[k], starts[k + 1]
        if opcodes[k] < listing:
            a[i] = places[arguments[start]]
            b[i] = places[arguments[stop - 1]]
        elif standing[i]:
            a[i] = places[arguments[start]]
            b[i] = places[arguments[stop - 1]] + 1
        else:
            a[i] = end
            for j in range(start, stop):
                lists[end] = places[arguments[j]]
                end += 1
            b[i] = end
    return a, b, lists, standing


@njit(nogil=True)
def _alike(k: int, end: int, a: Any, b: Any, own: int, arguments: int, shortest: int) -> tuple[int, int]:
    """Where those from ``k`` on end that are alike in where their arguments are, below ``own``, and their Run."""
    stop = k + 1
    if arguments == 0 or stop == end:
        return stop, NONE
    i, j = np.int64(a[stop]) - a[k], np.int64(b[stop]) - b[k]
    run = NONE
    if i == 1 and j == 1:
        run = RANGES
    elif i == 0 and j == 1 and arguments > 1:
        run = FIRST
    elif i == 1 and j == 0 and arguments > 1:
        run = SECOND
    if run == NONE:
        return stop, NONE
    stop = k
    while (
        stop < end and a[stop] == a[k] + i * (stop - k) and b[stop] == b[k] + j * (stop - k) and a[stop] < own > b[stop]
    ):
        stop += 1
    if stop - k < shortest:
        # The last one may be the first of others that are alike.
        return max(k + 1, stop - 1), NONE
    return stop, run


@compiled
def divide(
    groups: Any,
    opcodes: Any,
    a: Any,
    b: Any,
    lists: Any,
    standing: Any,
    first: int,
    arguments: Any,
    shortest: int,
    few: Any,
    mixed: int,
) -> Any:
    """Cut groups where their arguments begin or end to stand one after another, and join small ones.

    Args:
        groups: For each its opcode, and where it begins and ends.
        opcodes: For each operation, in their order.
        a: For each operation, as ``tabulate`` gives it.
        b: The same.
        lists: Places.
        standing: For each operation.
        first: Place of the first operation.
        arguments: For each opcode, of how many its operations have; 0 if it is no matter where they are, -1 if they are
            listed or standing.
        shortest: How many operations whose arguments stand one after another are worth a group.
        few: For each opcode, how many operations are not worth one.
        mixed: The opcode of a group that joins such.

    Returns:
        For each group its opcode, where it begins and ends, which Run it is, and the lowest place of an operation that
        is an argument.
    """
    table = np.empty((len(a), 5), np.int32)
    count = 0
    for r in range(len(groups)):
        opcode, k, end = groups[r, 0], groups[r, 1], groups[r, 2]
        before = count
        while k < end:
            if arguments[opcode] < 0:
                stop, run = k + 1, RANGES if standing[k] else NONE
            else:
                stop, run = _alike(k, end, a, b, first + k, arguments[opcode], shortest)
            if count > before and table[count - 1, 3] == run and (run == NONE or arguments[opcode] < 0):
                table[count - 1, 2] = stop
            else:
                table[count, 0], table[count, 1], table[count, 2], table[count, 3] = opcode, k, stop, run
                count += 1
            k = stop
    last, joins = -1, False
    for r in range(count):
        opcode, begin, end, run = table[r, 0], table[r, 1], table[r, 2], table[r, 3]
        small = run == NONE and end - begin <= few[opcode]
        if small and joins:
            table[last, 0], table[last, 2] = mixed, end
            continue
        last, joins = last + 1, small
        table[last, 0], table[last, 1], table[last, 2], table[last, 3] = opcode, begin, end, run
    for r in range(last + 1):
        lowest = first + table[r, 1]
        for k in range(table[r, 1], table[r, 2]):
            if arguments[opcodes[k]] >= 0:
                for place in (a[k], b[k]):
                    if place >= first:
                        lowest = min(lowest, place)
            elif standing[k]:
                if b[k] > first:
                    lowest = min(lowest, max(a[k], first))
            else:
                for place in lists[a[k] : b[k]]:
                    if place >= first:
                        lowest = min(lowest, place)
        table[r, 4] = lowest
    return table[: last + 1].copy()


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
