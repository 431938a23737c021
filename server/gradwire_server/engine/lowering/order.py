"""Passes over the operations of a stage, one after another, as no operation on arrays can make them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.lowering.rows import FIRST, NONE, RANGES, SECOND

ABSENT, PASSED = -1, -2
"""Ranks of nodes that a stage does not compute: they are there before it, or there with their operands."""


@compiled
def arrange(ranks: Any, starts: Any, operands: Any, rank_count: int, chained: Any) -> Any:
    """Put the nodes of a stage into an order of few groups of one rank.

    Ranks come up in turn, round after round, and a node is done as soon as its rank comes up after its operands are
    there. Where a group runs strictly from its first node to its last, as ``chained`` says for each rank, a node may
    even follow on an operand in its own group.

    Args:
        ranks: [nodes], ABSENT, PASSED, or from 0 on.
        starts: [nodes + 1], where the operands of each node begin.
        operands: [edges], nodes.
        rank_count: How many ranks there are.
        chained: [ranks], whether a group may depend on itself.

    Returns:
        The nodes in their order; and for each group its rank, and where it begins and ends there.
    """
    count = len(ranks)
    turns = np.full(count, -1, np.int32)
    rounds, live = 0, 0
    by_rank = np.zeros(rank_count + 1, np.int32)
    for k in range(count):
        rank = ranks[k]
        if rank == ABSENT:
            continue
        latest = np.int32(-1)
        for i in range(starts[k], starts[k + 1]):
            latest = max(latest, turns[operands[i]])
        if rank == PASSED:
            turns[k] = latest
            continue
        last_round = latest // rank_count if latest >= 0 else 0
        turn = last_round * rank_count + rank
        if turn < latest or (turn == latest and not chained[rank]):
            turn += rank_count
        turns[k] = turn
        rounds = max(rounds, turn // rank_count + 1)
        live += 1
        by_rank[rank + 1] += 1
    # Sorted by counting, first by rank and then, keeping that order, by round.
    by_round = np.zeros(rounds + 1, np.int32)
    for k in range(count):
        if ranks[k] >= 0:
            by_round[turns[k] // rank_count + 1] += 1
    for i in range(rank_count):
        by_rank[i + 1] += by_rank[i]
    for i in range(rounds):
        by_round[i + 1] += by_round[i]
    half = np.empty(live, np.int32)
    for k in range(count):
        if ranks[k] >= 0:
            half[by_rank[ranks[k]]] = k
            by_rank[ranks[k]] += 1
    order = np.empty(live, np.int32)
    for i in range(live):
        own = turns[half[i]] // rank_count
        order[by_round[own]] = half[i]
        by_round[own] += 1
    groups = 0
    last = np.int32(-1)
    for i in range(live):
        groups += turns[order[i]] != last
        last = turns[order[i]]
    table = np.empty((groups, 3), np.int32)
    group, last = -1, np.int32(-1)
    for i in range(live):
        turn = turns[order[i]]
        if turn != last:
            group += 1
            table[group, 0], table[group, 1] = ranks[order[i]], i
            last = turn
        table[group, 2] = i + 1
    return order, table


@compiled
def tabulate(order: Any, opcodes: Any, starts: Any, operands: Any, places: Any, listing: int, summing: int) -> Any:
    """Where the arguments of the operations in this order are.

    Args:
        order: [operations], nodes.
        opcodes: [nodes]; from ``listing`` on they take more than two arguments, and ``summing`` is that of which
            arguments that stand one after another need no list.
        starts: [nodes + 1], where the operands of each node begin.
        operands: [edges], nodes.
        places: [nodes].
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
            standing[i] &= places[operands[j]] == places[operands[j - 1]] + 1
        if not standing[i]:
            listed += starts[k + 1] - starts[k]
    a, b, lists = np.empty(len(order), np.uint32), np.empty(len(order), np.uint32), np.empty(listed, np.uint32)
    end = 0
    for i in range(len(order)):
        k = order[i]
        start, stop = starts[k], starts[k + 1]
        if opcodes[k] < listing:
            a[i] = places[operands[start]]
            b[i] = places[operands[stop - 1]]
        elif standing[i]:
            a[i] = places[operands[start]]
            b[i] = places[operands[stop - 1]] + 1
        else:
            a[i] = end
            for j in range(start, stop):
                lists[end] = places[operands[j]]
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
    active: Any,
) -> Any:
    """Cut groups where their arguments begin or end to stand one after another, and join small ones.

    Args:
        groups: For each its opcode, and where it begins and ends.
        opcodes: For each operation, in their order.
        a: For each operation, as ``tabulate`` gives it.
        b: For each operation, as ``tabulate`` gives it.
        lists: Places.
        standing: For each operation.
        first: Place of the first operation.
        arguments: For each opcode, of how many its operations have; 0 if it is no matter where they are, -1 if they are
            listed or standing.
        shortest: How many operations whose arguments stand one after another are worth a group.
        few: For each opcode, how many operations are not worth one.
        mixed: The opcode of a group that joins such.
        active: [operations], whether each passes a gradient on; those that do and those that do not are not joined.

    Returns:
        For each group its opcode, where it begins and ends, which Run it is, and the lowest place of an operation that
        is an argument.
    """
    most = 0
    for r in range(len(groups)):
        most += groups[r, 2] - groups[r, 1]
    table = np.empty((most, 5), np.int32)
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
        if small and joins and active[begin] == active[table[last, 1]]:
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
