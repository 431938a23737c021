"""Whether every row of code stays within its buffers: the machine itself does not look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.buffers import MODES, OF_LANES, Own
from gradwire_server.engine.run.job import Job


def rows_of(code: Any) -> Iterator[tuple[int, list[int]]]:
    """The number of the section, and the integers, of each row."""
    rows = code.rows.tolist()
    for number, section in enumerate(code.sections):
        at = section.begin
        while at < section.end:
            yield number, rows[at : at + rows[at + 1]]
            at += rows[at + 1]


class Bounds:
    """The bounds of a job's buffers."""

    def __init__(self, job: Job) -> None:
        self.code, self.layout = job.bound.code, job.bound.layout
        tile, n = self.layout.tile, self.layout.examples
        self.sizes: dict[int, int] = {
            **{own: size * (tile if own in OF_LANES else 1) for own, size in self.code.sizes.own.items()},
            Own.CONSTANTS: len(self.code.data.constants),
            Own.INTEGERS: len(self.code.data.integers),
            Own.LOSSES: n if job.per_example_gradients else 0,
        }
        for number, own in enumerate(self.code.attached, start=len(MODES)):
            size = job.program.checked.size(own.node)
            self.sizes[number] = size * (n if own.examples else 1)

    def check(self, ref: list[int], loops: list[tuple[int, int]], lanes: int) -> None:
        """Loops are lengths with the strides of this reference."""
        buffer, place, offset, distance = ref
        mode = self.code.modes[buffer]
        if any(n == 0 for n, _ in loops):
            return
        start = place * lanes + offset if mode == r.TILE else place + offset
        if mode == r.EXAMPLES:
            start += distance * (self.layout.examples - lanes)
        steps = [(n - 1) * stride for n, stride in loops]
        lowest, highest = (start + sum(step for step in steps if step * sign > 0) for sign in (-1, 1))
        assert 0 <= lowest <= highest < self.sizes[buffer], (ref, loops, lanes, lowest, highest, self.sizes[buffer])

    def check_row(self, section: int, row: list[int]) -> None:  # noqa: C901, PLR0912  (a case for each kind)
        lanes = self.layout.tile if section in (1, 2) else 1
        kind = row[0]

        def long(at: int) -> int:
            return row[at] * (lanes if row[at + 1] else 1)

        if kind == r.TENSOR:
            loops = [row[r.T_NEST + k * r.NEST : r.T_NEST + (k + 1) * r.NEST] for k in range(row[r.T_RANK])]
            for slot in range(4):
                if row[r.T_ACCESS + slot] != r.ABSENT:
                    ref = row[r.T_REFS + slot * r.REF : r.T_REFS + (slot + 1) * r.REF]
                    self.check(ref, [(x[0] * (lanes if x[1] else 1), x[2 + slot]) for x in loops], lanes)
            if row[r.T_WIDE]:
                assert long(r.T_WIDE) <= self.code.sizes.wide + lanes * self.code.sizes.wide_of_lane
        elif kind == r.PRODUCT:
            m, n, k = long(r.P_ROWS), long(r.P_COLUMNS), long(r.P_INNER)
            stacks = [row[r.P_NEST + i * r.NEST : r.P_NEST + (i + 1) * r.NEST] for i in range(row[r.P_RANK])]
            strides = row[r.P_STRIDES : r.P_STRIDES + 6]
            for slot, sizes in enumerate(((m, n), (m, k), (k, n))):
                ref = row[r.P_REFS + slot * r.REF : r.P_REFS + (slot + 1) * r.REF]
                own = [(x[0] * (lanes if x[1] else 1), x[2 + slot]) for x in stacks]
                self.check(ref, own + list(zip(sizes, strides[2 * slot : 2 * slot + 2], strict=True)), lanes)
        elif kind in (r.FILL, r.FINITE):
            self.check(row[r.F_REF : r.F_REF + r.REF], [(long(r.F_COUNT), 1)], lanes)
        elif kind in (r.GATHER, r.SCATTER):
            many = lanes if row[r.G_TAKEN + 1] else 1
            tables, rows, n, width = row[r.G_TABLES], row[r.G_ROWS], row[r.G_TAKEN], row[r.G_SIZE]
            for slot, size in enumerate((tables * n * width, tables * rows * width, n)):
                ref = row[r.G_REFS + slot * r.REF : r.G_REFS + (slot + 1) * r.REF]
                self.check(ref, [(many, ref[3]), (size, 1)], lanes)
            assert kind == r.GATHER or rows * width <= self.code.sizes.wide
        elif kind == r.SCAN:
            many = lanes if row[r.A_ROWS_LANES] else 1
            for slot in range(2):
                ref = row[r.A_REFS + slot * r.REF : r.A_REFS + (slot + 1) * r.REF]
                self.check(ref, [(many, ref[3]), (row[r.A_TABLES] * row[r.A_ROWS] * row[r.A_SIZE], 1)], lanes)
            assert row[r.A_SIZE] <= self.code.sizes.wide
        elif kind in (r.ELEMENTS, r.ELEMENTS_BACK, r.STACK, r.STACK_BACK):
            listed = next(a for a in self.code.data.listed if a.ctypes.data == row[r.E_LIST])
            scalars, tensor = (row[r.E_REFS + s * r.REF : r.E_REFS + (s + 1) * r.REF] for s in range(2))
            places = (
                listed.tolist()
                if kind in (r.STACK, r.STACK_BACK)
                else range(row[r.E_PLACE], row[r.E_PLACE] + row[r.E_COUNT])
            )
            offsets = range(row[r.E_COUNT]) if kind in (r.STACK, r.STACK_BACK) else listed.tolist()
            for place, offset in zip(places, offsets, strict=True):
                self.check([scalars[0], place, 0, 0], [(lanes, 1)], lanes)
                self.check([tensor[0], tensor[1], tensor[2] + offset, tensor[3]], [(lanes, tensor[3])], lanes)
        elif kind == r.CONSTANTS:
            ref = row[r.E_REFS : r.E_REFS + r.REF]
            self.check([ref[0], row[r.E_PLACE], 0, 0], [(row[r.E_COUNT] * lanes, 1)], lanes)


def check_bounds(job: Job) -> None:
    """Every row of a job stays within its buffers."""
    bounds = Bounds(job)
    if not bounds.layout.tiles and job.bound.code.sections[1].end > job.bound.code.sections[1].begin:
        return
    for section, row in rows_of(job.bound.code):
        bounds.check_row(section, row)
