"""The gradient against central finite differences of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite, isinf

import numpy as np

from gradwire_server.engine import shapes
from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.evaluation import run
from gradwire_server.engine.graph import Array, Reduction, Shape
from gradwire_server.engine.job import Job, bind, within
from gradwire_server.engine.program import Program
from gradwire_server.engine.query import Query
from gradwire_server.errors import Reason, refuse
from gradwire_server.limits import Limits

STEP = float(np.cbrt(np.finfo(np.float64).eps))
"""Balances the error of the differences (step squared) with that of rounding (1 / step)."""

TOLERANCES = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}
MAX_PROBES = 100

WIDE = np.dtype(np.float64)
"""What differences are taken in."""

ROUNDING = 64
"""Rounding errors of one evaluation, in units of the machine epsilon of its value."""

KINK = 0.01
"""Relative difference of the slopes to the left and to the right that no smooth loss has at such a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCheck:
    """How well the gradient of one source agrees."""

    name: str
    passed: bool
    probed: int
    failed: int
    worst_position: Shape
    """Of the element that agrees least."""
    analytic: float
    numeric: float
    relative_error: float
    """|analytic - numeric| by the larger of the two, there."""


@dataclass(frozen=True, slots=True)
class _Probe:
    position: Shape
    analytic: float
    numeric: float
    agrees: bool

    @property
    def relative_error(self) -> float:
        larger = max(abs(self.analytic), abs(self.numeric))
        return abs(self.analytic - self.numeric) / larger if larger else 0.0

    @property
    def rank(self) -> tuple[bool, float]:
        """The largest is the worst; NaN is worse than any number."""
        return not self.agrees, np.inf if np.isnan(self.relative_error) else self.relative_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check whose request fits its program, ready to run."""

    job: Job
    """Of the gradient."""
    losses: Job
    """Of the loss in float64, on arrays of no memory."""
    step: float
    tolerance: float
    max_probes: int
    cost: float
    """Rough estimate of the computing time, with all differences, in seconds on one core."""
    memory: int
    """Estimate of the memory at the peak, in bytes."""


def bind_check(
    program: Program,
    arrays: Mapping[str, Array],
    *,
    dtype: np.dtype[np.floating],
    reduction: Reduction = Reduction.MEAN,
    wrt: tuple[str, ...] | None = None,
    step: float | None = None,
    tolerance: float | None = None,
    max_probes: int | None = None,
    limits: Limits,
    checkpoint: Checkpoint = unhurried,
) -> Check:
    """Check what is to be compared: a gradient in ``dtype`` with central differences, always taken in float64.

    Raises:
        Refusal: as ``bind`` does; INVALID_REQUEST for a reduction of none and for bad settings; whatever
            ``checkpoint`` raises.
    """
    if reduction is Reduction.NONE:
        raise refuse(Reason.INVALID_REQUEST, "a check needs one loss; reduce by mean or sum", "reduction")
    step = STEP if step is None else step
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    max_probes = MAX_PROBES if max_probes is None else max_probes
    for setting, value in (("step", step), ("tolerance", tolerance), ("max_probes", max_probes)):
        if not (value > 0 and np.isfinite(value)):
            raise refuse(Reason.INVALID_REQUEST, f"{setting} is {value}; it must be finite and above 0", setting)
    job = bind(program, Query(arrays=arrays, dtype=dtype, reduction=reduction, wrt=wrt), limits, checkpoint=checkpoint)
    wide = {
        name: array if array.dtype == np.int64 else np.broadcast_to(np.float64(0), array.shape)
        for name, array in checked(arrays.items(), checkpoint)
    }
    losses = bind(program, Query(arrays=wide, dtype=WIDE, reduction=reduction, wrt=()), limits, checkpoint=checkpoint)
    copies = sum(array.size * WIDE.itemsize for array in checked(wide.values(), checkpoint))
    gradients = sum(arrays[source.name].nbytes for source in checked(job.wrt, checkpoint))
    probes = sum(min(arrays[source.name].size, max_probes) for source in checked(job.wrt, checkpoint))
    memory = max(job.memory, losses.memory + copies + gradients)
    within(replace(job, memory=memory), limits)
    cost = job.cost + (1 + 2 * probes) * losses.cost
    return Check(
        job=job, losses=losses, step=step, tolerance=tolerance, max_probes=max_probes, cost=cost, memory=memory
    )


def run_check(check: Check, checkpoint: Checkpoint) -> tuple[SourceCheck, ...]:
    """Compare the gradient with the differences.

    An element agrees if |analytic - numeric| is at most ``tolerance`` times the larger of the two plus what rounding
    explains. Where the slopes to the left and to the right differ, at a kink such as a tie of max, every slope between
    them is a subgradient and agrees.

    Raises:
        Refusal: as ``run`` does; INVALID_REQUEST if the step is lost in an element.
    """
    analytic = run(check.job, checkpoint).gradients
    wide = {
        name: np.array(array, array.dtype if array.dtype == np.int64 else WIDE, order="C")
        for name, array in checked(check.job.query.arrays.items(), checkpoint)
    }
    losses = replace(check.losses, query=replace(check.losses.query, arrays=wide))
    middle = float(run(losses, checkpoint).loss)
    results = []
    for name, gradient in analytic.items():
        flat = np.linspace(0, gradient.size - 1, min(gradient.size, check.max_probes)).astype(np.int64)
        probes = []
        for index in flat:
            place = tuple(int(i) for i in np.unravel_index(index, gradient.shape))
            checkpoint()
            points = _points(check.job.program, name, place, float(wide[name][place]), check.step)
            analytic_here = float(gradient[place])
            probes.append(_probe(losses, wide[name], place, points, analytic_here, middle, check.tolerance, checkpoint))
        results.append(_judged(name, probes))
    return tuple(results)


def _points(program: Program, name: str, position: Shape, at: float, step: float) -> tuple[float, float, float]:
    """Where to take the loss: below, at and above an element.

    Raises:
        Refusal: INVALID_REQUEST, if float64 has no such three numbers; not if the element itself is none.
    """
    move = step * max(1.0, abs(at))
    below, above = at - move, at + move
    if isfinite(at) and not (below < at < above and isfinite(above - below)):
        source, where = program.by_name[name], f" {shapes.text(position)}" if position else ""
        found, advice = ("leaves the range of", "smaller") if isinf(above - below) else ("is lost in", "larger")
        raise refuse(
            Reason.INVALID_REQUEST,
            f"step is {step}, which at element{where} of {source}, {at}, {found} float64; give a {advice} one",
            "step",
        )
    return below, at, above


def _probe(
    losses: Job,
    array: Array,
    position: Shape,
    points: tuple[float, float, float],
    analytic: float,
    middle: float,
    tolerance: float,
    checkpoint: Checkpoint,
) -> _Probe:
    below, at, above = points
    array[position] = above
    upper = float(run(losses, checkpoint).loss)
    array[position] = below
    lower = float(run(losses, checkpoint).loss)
    array[position] = at
    with np.errstate(all="ignore"):
        numeric = (upper - lower) / (above - below)
        noise = ROUNDING * np.finfo(np.float64).eps * max(abs(upper), abs(lower), abs(middle)) / (above - below)
        right, left = (upper - middle) / (above - at), (middle - lower) / (at - below)
        near = tolerance * max(abs(analytic), abs(numeric)) + noise
        agrees = abs(analytic - numeric) <= near
        if not agrees and abs(right - left) > KINK * max(abs(right), abs(left)) + noise:
            agrees = min(left, right) - near <= analytic <= max(left, right) + near
    return _Probe(position, analytic, numeric, bool(agrees))


def _judged(name: str, probes: list[_Probe]) -> SourceCheck:
    worst = max(probes, key=lambda probe: probe.rank, default=_Probe((), 0.0, 0.0, agrees=True))
    failed = sum(not probe.agrees for probe in probes)
    return SourceCheck(
        name=name,
        passed=failed == 0,
        probed=len(probes),
        failed=failed,
        worst_position=worst.position,
        analytic=worst.analytic,
        numeric=worst.numeric,
        relative_error=worst.relative_error,
    )
