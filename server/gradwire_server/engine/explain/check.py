"""The gradient against central finite differences of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isinf
from typing import NamedTuple

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.graph.checking import Source
from gradwire_server.engine.graph.graph import Array, Reduction, Shape
from gradwire_server.engine.graph.shapes import text
from gradwire_server.errors import Reason, refuse

STEP = float(np.cbrt(np.finfo(np.float64).eps))
"""Balances the error of the differences (step squared) with that of rounding (1 / step)."""

TOLERANCES = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}
MAX_PROBES = 100

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
    """Position of the element that agrees least; what follows is about that element."""
    analytic: float
    numeric: float
    relative_error: float
    """|analytic - numeric| by the larger of the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a gradient is compared."""

    step: float
    """Relative to max(1, |x|)."""
    tolerance: float
    """Relative to the larger one of analytic and numeric."""
    max_probes: int
    """Elements of each source that are probed, at most."""

    def evaluations(self, elements: int) -> int:
        """Losses that are evaluated for a source of so many elements."""
        return 2 * min(elements, self.max_probes)


def settings_of(
    dtype: np.dtype[np.floating],
    reduction: Reduction,
    step: float | None = None,
    tolerance: float | None = None,
    max_probes: int | None = None,
) -> Settings:
    """The settings of a request, in ``dtype``; None is the default.

    Raises:
        Refusal: INVALID_REQUEST for a reduction of none and for bad settings.
    """
    if reduction is Reduction.NONE:
        raise refuse(Reason.INVALID_REQUEST, "a check needs one loss; reduce by mean or sum", "reduction")
    settings = Settings(
        step=STEP if step is None else step,
        tolerance=TOLERANCES[dtype] if tolerance is None else tolerance,
        max_probes=MAX_PROBES if max_probes is None else max_probes,
    )
    for setting in ("step", "tolerance", "max_probes"):
        value = getattr(settings, setting)
        if not (value > 0 and isfinite(value)):
            bounds = "above 0" if isinstance(value, int) else "finite and above 0"
            raise refuse(Reason.INVALID_REQUEST, f"{setting} is {value}; it must be {bounds}", setting)
    return settings


def check_gradient(
    sources: Sequence[Source],
    arrays: Mapping[str, Array],
    gradient: Mapping[str, Array],
    loss: Callable[[Mapping[str, Array]], float],
    settings: Settings,
    checkpoint: Checkpoint = unhurried,
) -> tuple[SourceCheck, ...]:
    """Compare a gradient with differences of the loss.

    An element agrees if |analytic - numeric| is at most ``tolerance`` times the larger of the two plus what rounding
    explains. Where the slopes to the left and to the right differ, at a kink such as a tie of max, every slope between
    them is a subgradient and agrees.

    Args:
        sources: Sources whose gradient is checked.
        arrays: All arrays of the request, by name.
        gradient: By name of source.
        loss: The loss at arrays in float64, by name, with indices in int64. The arrays change from call to call, and
            are the same objects.
        settings: How to compare.
        checkpoint: Called before each probe; may raise.

    Raises:
        Refusal: INVALID_REQUEST if the step is lost in an element; whatever ``loss`` and ``checkpoint`` raise.
    """
    wide = {
        name: np.array(array, array.dtype if array.dtype == np.int64 else np.float64, order="C")
        for name, array in checked(arrays.items(), checkpoint)
    }
    middle = loss(wide)
    results = []
    for source in sources:
        slopes, array, probes = gradient[source.name], wide[source.name], []
        for index in np.linspace(0, slopes.size - 1, min(slopes.size, settings.max_probes)).astype(np.int64):
            checkpoint()
            place = tuple(map(int, np.unravel_index(index, slopes.shape)))
            below, at, above = _points(source, place, float(array[place]), settings.step)
            array[place] = above
            upper = loss(wide)
            array[place] = below
            lower = loss(wide)
            array[place] = at
            points, losses = (below, at, above), (lower, middle, upper)
            probes.append(_probe(place, float(slopes[place]), points, losses, settings.tolerance))
        results.append(_judged(source.name, probes))
    return tuple(results)


class _Probe(NamedTuple):
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


def _points(source: Source, position: Shape, at: float, step: float) -> tuple[float, float, float]:
    """Where to take the loss: below, at and above an element.

    Raises:
        Refusal: INVALID_REQUEST, if float64 has no such three numbers; not if the element itself is none.
    """
    move = step * max(1.0, abs(at))
    below, above = at - move, at + move
    if isfinite(at) and not (below < at < above and isfinite(above - below)):
        where = f" {text(position)}" if position else ""
        found, advice = ("leaves the range of", "smaller") if isinf(above - below) else ("is lost in", "larger")
        raise refuse(
            Reason.INVALID_REQUEST,
            f"step is {step}, which at element{where} of {source}, {at}, {found} float64; give a {advice} one",
            "step",
        )
    return below, at, above


@np.errstate(all="ignore")
def _probe(
    position: Shape,
    analytic: float,
    points: tuple[float, float, float],
    losses: tuple[float, float, float],
    tolerance: float,
) -> _Probe:
    (below, at, above), (lower, middle, upper) = np.array(points), np.array(losses)
    numeric = (upper - lower) / (above - below)
    noise = ROUNDING * np.finfo(np.float64).eps * max(map(abs, losses)) / (above - below)
    right, left = (upper - middle) / (above - at), (middle - lower) / (at - below)
    near = tolerance * max(abs(analytic), abs(numeric)) + noise
    agrees = abs(analytic - numeric) <= near
    if not agrees and abs(right - left) > KINK * max(abs(right), abs(left)) + noise:
        agrees = min(left, right) - near <= analytic <= max(left, right) + near
    return _Probe(position, analytic, float(numeric), bool(agrees))


def _judged(name: str, probes: Sequence[_Probe]) -> SourceCheck:
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
