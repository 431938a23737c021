"""The walker: goes through rows of code, for the examples of one tile."""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine import strided
from gradwire_server.engine.machine.control import address_of, lengthened, stops
from gradwire_server.engine.machine.memory import (
    bits_like,
    called,
    converted,
    float_of,
    invoke,
    item_size,
    pointer,
    unsigned,
)

AT_ONCE = 1 << 20


@compiled
def fill_row(block: int, address: int, one: Any) -> None:
    """Set numbers."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    at = pointer(address_of(c, row, r.F_REF, item_size(one)), one)
    number, n = converted(float_of(row[r.F_NUMBER]), one), lengthened(c, row, r.F_COUNT)
    for first in range(0, n, AT_ONCE):
        if stops(c):
            return
        strided.fill(at, first, min(AT_ONCE, n - first), number)


@compiled
def look(block: int, address: int, one: Any) -> None:
    """Note whether numbers are finite."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    zero, size = bits_like(one), item_size(one)
    n, at = lengthened(c, row, r.F_COUNT), address_of(c, row, r.F_REF, size)
    exponent = zero + (0x7FF0_0000_0000_0000 if size == 8 else 0x7F80_0000)
    for first in range(0, n, AT_ONCE):
        if stops(c):
            return
        if not strided.all_finite(pointer(at + first * size, zero), min(AT_ONCE, n - first), exponent):
            c[r.C_STATUS] |= row[r.F_NUMBER]
            return


@compiled
def add_losses(block: int, address: int, one: Any) -> None:
    """Add the losses of the tile to the total, in float64."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    losses, total = pointer(address_of(c, row, r.F_REF, item_size(one)), one), 0.0
    for first in range(0, c[r.C_LANES], strided.CHUNK):
        total += strided.row_sum(losses, first, min(strided.CHUNK, c[r.C_LANES] - first))
    pointer(c[r.C_LOSS], 1.0)[0] += total


@compiled
def constants(block: int, address: int, one: Any) -> None:
    """Give constants their places, in each lane."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    v = pointer(address_of(c, row, r.E_REFS, item_size(one)), one)
    numbers, lanes = pointer(row[r.E_LIST], 1.0), c[r.C_LANES]
    for k in range(row[r.E_COUNT]):
        strided.fill(v, (row[r.E_PLACE] + k) * lanes, lanes, converted(numbers[k], one))


@compiled
def combine(block: int, address: int, one: Any) -> None:
    """Give sums over examples their places, divided; those that are not finite are noted."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    totals, divisor = pointer(c[r.C_TOTALS], 1.0), float_of(c[r.C_DIVISOR])
    zero = converted(0.0, one)
    for k in range(row[r.M_COUNT]):
        at = r.M_SUMS + r.M_ENTRY * k
        begin, n = unsigned(row[at]), unsigned(row[at + 1])
        out = pointer(address_of(c, row, at + 3, item_size(one)), one)
        bad = False
        if row[at] < 0 or (row[at + 2] and c[r.C_DIRECT]):
            share = converted(divisor, one)
            for i in range(n):
                number = out[i] / share
                bad = bad | (number - number != zero)
                out[i] = number
        else:
            for i in range(n):
                number = converted(totals[begin + i] / divisor, one)
                bad = bad | (number - number != zero)
                out[i] = number
        if bad:
            c[r.C_STATUS] |= r.BAD_SUM


@called
def execute(block: int, begin: int, end: int, one: Any) -> None:
    """Run the rows of an interval, until one ends it; what they find is noted in the status."""
    c, at = pointer(block, int64(0)), begin
    while at < end:
        address = c[r.C_CODE] + 8 * at
        row = pointer(address, int64(0))
        invoke(c[r.C_KINDS + row[0]], (block, address, one))
        if stops(c) or c[r.C_STATUS] & r.BAD_INDEX != 0:
            return
        at += row[1]
