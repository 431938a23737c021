"""Elements that move: to and from the places of scalars, and rows of tables by index."""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine.control import address_of, stops
from gradwire_server.engine.machine.memory import called, converted, inlined, item_size, pointer, unsigned
from gradwire_server.engine.machine.strided import CHUNK, row_sum

AT_ONCE = 1 << 16
"""Elements that are moved without a look at whether to stop."""


@called
def _elements(c: Any, row: Any, one: Any, backward: bool) -> None:
    size, lanes = item_size(one), c[r.C_LANES]
    v = pointer(address_of(c, row, r.E_REFS, size), one)
    a = pointer(address_of(c, row, r.E_REFS + r.REF, size), one)
    listed, distance = pointer(row[r.E_LIST], int64(0)), unsigned(row[r.E_REFS + r.REF + 3])
    for k in range(row[r.E_COUNT]):
        o, p = unsigned(listed[k]), unsigned((row[r.E_PLACE] + k) * lanes)
        if not backward:
            for lane in range(unsigned(lanes)):
                v[p + lane] = a[o + lane * distance]
        elif distance != unsigned(0) or lanes == 1:
            for lane in range(unsigned(lanes)):
                a[o + lane * distance] += v[p + lane]
        else:
            total = 0.0
            for first in range(0, lanes, CHUNK):
                n = min(CHUNK, lanes - first)
                total += row_sum(v, (row[r.E_PLACE] + k) * lanes + first, n)
            a[o] += converted(total, one)


@called
def _stack(c: Any, row: Any, one: Any, backward: bool) -> None:
    size, lanes = item_size(one), c[r.C_LANES]
    v = pointer(address_of(c, row, r.E_REFS, size), one)
    a = pointer(address_of(c, row, r.E_REFS + r.REF, size), one)
    listed, distance = pointer(row[r.E_LIST], int64(0)), unsigned(row[r.E_REFS + r.REF + 3])
    for k in range(unsigned(row[r.E_COUNT])):
        p = unsigned(listed[k] * lanes)
        for lane in range(unsigned(lanes)):
            if backward:
                v[p + lane] += a[k + lane * distance]
            else:
                a[k + lane * distance] = v[p + lane]


@compiled
def elements(block: int, address: int, one: Any) -> None:
    """Scalars that are elements of a tensor, each lane's in its place."""
    _elements(pointer(block, int64(0)), pointer(address, int64(0)), one, False)


@compiled
def elements_back(block: int, address: int, one: Any) -> None:
    """Gradients of scalars, added to those of the elements that they are."""
    _elements(pointer(block, int64(0)), pointer(address, int64(0)), one, True)


@compiled
def stack(block: int, address: int, one: Any) -> None:
    """A vector of scalars for each lane."""
    _stack(pointer(block, int64(0)), pointer(address, int64(0)), one, False)


@compiled
def stack_back(block: int, address: int, one: Any) -> None:
    """The gradient of a vector, added to those of its scalars."""
    _stack(pointer(block, int64(0)), pointer(address, int64(0)), one, True)


@inlined
def _row_of(indices: Any, k: int, rows: int) -> int:
    own = indices[k]
    return own + rows if own < 0 else own


@inlined
def _within(c: Any, indices: Any, begin: int, end: int, rows: int) -> bool:
    """Whether indices are in range; that one is not is noted."""
    for k in range(begin, end):
        if indices[k] < -rows or indices[k] >= rows:
            c[r.C_STATUS] |= r.BAD_INDEX
            return False
    return True


@compiled
def gather(block: int, address: int, one: Any) -> None:
    """Rows of tables by index; that one is out of range is noted, and ends it."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    size, rows, n, width = item_size(one), row[r.G_ROWS], row[r.G_TAKEN], unsigned(row[r.G_SIZE])
    lanes, often = c[r.C_LANES] if row[r.G_TAKEN + 1] else 1, _often(row)
    out, table = address_of(c, row, r.G_REFS, size), address_of(c, row, r.G_REFS + r.REF, size)
    listed = address_of(c, row, r.G_REFS + 2 * r.REF, 8)
    for lane in range(lanes):
        indices = pointer(listed + 8 * lane * row[r.G_REFS + 2 * r.REF + 3], int64(0))
        for number in range(row[r.G_TABLES]):
            first = lane * row[r.G_REFS + r.REF + 3] + number * rows * row[r.G_SIZE]
            x = pointer(table + size * first, one)
            y = pointer(out + size * (lane * row[r.G_REFS + 3] + number * n * row[r.G_SIZE]), one)
            for begin in range(0, n, often):
                end = min(begin + often, n)
                if stops(c) or not _within(c, indices, begin, end, rows):
                    return
                for k in range(begin, end):
                    i, o = unsigned(_row_of(indices, k, rows)) * width, unsigned(k) * width
                    for e in range(width):
                        y[o + e] = x[i + e]


@inlined
def _often(row: Any) -> int:
    """Rows without a look at whether to stop."""
    return max(1, AT_ONCE // max(1, row[r.G_SIZE]))


@inlined
def _add_rows(indices: Any, begin: int, end: int, rows: int, width: int, x: Any, g: Any) -> None:
    for k in range(begin, end):
        i, o = unsigned(_row_of(indices, k, rows)) * width, unsigned(k) * width
        for e in range(width):
            x[i + e] += g[o + e]


@inlined
def _finish_rows(indices: Any, begin: int, end: int, rows: int, width: int, x: Any, wide: Any, adds: bool) -> None:
    """Zero the rows of ``wide``, and before that add them to those of ``x``, if it is to be."""
    for k in range(begin, end):
        i = unsigned(_row_of(indices, k, rows)) * width
        for e in range(width):
            if adds:
                x[i + e] += converted(wide[i + e], x[i + e])
            wide[i + e] = 0.0


@compiled
def scatter(block: int, address: int, one: Any) -> None:
    """Entries added to rows of tables by index, in the order of lanes and indices; one out of range is noted.

    In float32 the rows that are added to add up in float64: they are zeroed first, and in the end each is added once,
    for its first index, after which it is zero again.
    """
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    size, rows, n, width = item_size(one), row[r.G_ROWS], row[r.G_TAKEN], unsigned(row[r.G_SIZE])
    lanes, often = c[r.C_LANES] if row[r.G_TAKEN + 1] else 1, _often(row)
    entries, table = address_of(c, row, r.G_REFS, size), address_of(c, row, r.G_REFS + r.REF, size)
    listed = address_of(c, row, r.G_REFS + 2 * r.REF, 8)
    step, table_step, entries_step = row[r.G_REFS + 2 * r.REF + 3], row[r.G_REFS + r.REF + 3], row[r.G_REFS + 3]
    # Lanes that add to one table are taken together.
    together = 1 if table_step else lanes
    wide = pointer(c[r.C_WIDE], 1.0)
    plain = size == 8 or n * together <= r.PLAINLY
    for first in range(0, lanes, together):
        for number in range(row[r.G_TABLES]):
            x = pointer(table + size * (first * table_step + number * rows * row[r.G_SIZE]), one)
            for turn in range(1 if plain else 3):
                for lane in range(first, first + together):
                    indices = pointer(listed + 8 * lane * step, int64(0))
                    g = pointer(entries + size * (lane * entries_step + number * n * row[r.G_SIZE]), one)
                    for begin in range(0, n, often):
                        end = min(begin + often, n)
                        if stops(c) or not _within(c, indices, begin, end, rows):
                            return
                        if plain:
                            _add_rows(indices, begin, end, rows, width, x, g)
                        elif turn == 1:
                            _add_rows(indices, begin, end, rows, width, wide, g)
                        else:
                            _finish_rows(indices, begin, end, rows, width, x, wide, turn == 2)


@compiled
def scan(block: int, address: int, one: Any) -> None:
    """Sums of the rows of tables up to each, or from each on, in float64."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    size, rows, width = item_size(one), row[r.A_ROWS], unsigned(row[r.A_SIZE])
    lanes = c[r.C_LANES] if row[r.A_ROWS_LANES] else 1
    out, operand = address_of(c, row, r.A_REFS, size), address_of(c, row, r.A_REFS + r.REF, size)
    wide, often = pointer(c[r.C_WIDE], 1.0), max(1, AT_ONCE // max(1, row[r.A_SIZE]))
    for lane in range(lanes):
        for number in range(row[r.A_TABLES]):
            first = number * rows * row[r.A_SIZE]
            z = pointer(out + size * (lane * row[r.A_REFS + 3] + first), one)
            x = pointer(operand + size * (lane * row[r.A_REFS + r.REF + 3] + first), one)
            for e in range(width):
                wide[e] = 0.0
            for k in range(rows):
                if k % often == 0 and stops(c):
                    return
                at = unsigned(rows - 1 - k if row[r.A_BACKWARD] else k) * width
                for e in range(width):
                    wide[e] += x[at + e]
                    z[at + e] = converted(wide[e], one)
