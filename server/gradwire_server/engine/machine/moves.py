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


@compiled
def gather(block: int, address: int, one: Any) -> None:
    """Rows of a table by index; that one is out of range is noted, and ends it."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    size, rows, n, width = item_size(one), row[r.G_ROWS], row[r.G_TAKEN], unsigned(row[r.G_SIZE])
    lanes, often = c[r.C_LANES] if row[r.G_TAKEN + 1] else 1, _often(row)
    out, table = address_of(c, row, r.G_REFS, size), address_of(c, row, r.G_REFS + r.REF, size)
    listed = address_of(c, row, r.G_REFS + 2 * r.REF, 8)
    for lane in range(lanes):
        indices = pointer(listed + 8 * lane * row[r.G_REFS + 2 * r.REF + 3], int64(0))
        x = pointer(table + size * lane * row[r.G_REFS + r.REF + 3], one)
        y = pointer(out + size * lane * row[r.G_REFS + 3], one)
        for begin in range(0, n, often):
            if stops(c):
                return
            for k in range(begin, min(begin + often, n)):
                own = indices[k]
                if own < -rows or own >= rows:
                    c[r.C_STATUS] |= r.BAD_INDEX
                    return
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
    """Gradients of rows added to those of the table, in the order of lanes and indices.

    In float32 the rows that are taken add up in float64: they are zeroed first, and in the end each is added once,
    for its first index, after which it is zero again.
    """
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    size, rows, n, width = item_size(one), row[r.G_ROWS], row[r.G_TAKEN], unsigned(row[r.G_SIZE])
    lanes, often = c[r.C_LANES] if row[r.G_TAKEN + 1] else 1, _often(row)
    out, table = address_of(c, row, r.G_REFS, size), address_of(c, row, r.G_REFS + r.REF, size)
    listed = address_of(c, row, r.G_REFS + 2 * r.REF, 8)
    step, table_step, out_step = row[r.G_REFS + 2 * r.REF + 3], row[r.G_REFS + r.REF + 3], row[r.G_REFS + 3]
    # Lanes that add to one table are taken together.
    together = 1 if table_step else lanes
    wide = pointer(c[r.C_WIDE], 1.0)
    for first in range(0, lanes, together):
        x = pointer(table + size * first * table_step, one)
        plain = size == 8 or n * together <= r.PLAINLY
        for turn in range(1 if plain else 3):
            for lane in range(first, first + together):
                indices = pointer(listed + 8 * lane * step, int64(0))
                g = pointer(out + size * lane * out_step, one)
                for begin in range(0, n, often):
                    if stops(c):
                        return
                    end = min(begin + often, n)
                    if plain:
                        _add_rows(indices, begin, end, rows, width, x, g)
                    elif turn == 1:
                        _add_rows(indices, begin, end, rows, width, wide, g)
                    else:
                        _finish_rows(indices, begin, end, rows, width, x, wide, turn == 2)
