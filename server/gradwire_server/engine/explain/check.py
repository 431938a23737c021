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

STAYS = 0.8
"""Part of a kink's jump that is there at the smaller step too; of what bends within the step there is less."""

SMALLER = 0.6
"""Part of the step at which a difference is taken again; of no period that a loss may have, as 1 or a half."""


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
    step_too_large: bool
    """Whether the difference depends on the step by more than the tolerance, and says nothing of the gradient."""


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
        """Losses that are evaluated for a source of so many elements, at most."""
        return 4 * min(elements, self.max_probes)


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
    explains. Where they do not agree the differences are taken once more, at a smaller step. Where at both steps slopes
    to the left and to the right differ, at a kink such as a tie of max, every slope between them is a subgradient and
    agrees. Where the loss bends or ends within the step, that is too large to tell.

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
    losses = _Losses(loss, wide, loss(wide))
    results = []
    for source in sources:
        slopes, probes = gradient[source.name], []
        for index in np.linspace(0, slopes.size - 1, min(slopes.size, settings.max_probes)).astype(np.int64):
            checkpoint()
            place = tuple(map(int, np.unravel_index(index, slopes.shape)))
            probes.append(_probe(losses, source, place, float(slopes[place]), settings))
        results.append(_judged(source.name, probes))
    return tuple(results)


class _Probe(NamedTuple):
    position: Shape
    analytic: float
    numeric: float
    agrees: bool
    step_too_large: bool = False

    @property
    def relative_error(self) -> float:
        larger = max(abs(self.analytic), abs(self.numeric))
        return abs(self.analytic - self.numeric) / larger if larger else 0.0

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """The largest is the worst, which is wrong at any step; NaN is worse than any number."""
        error = np.inf if np.isnan(self.relative_error) else self.relative_error
        return not self.agrees, not self.step_too_large, error


class _Difference(NamedTuple):
    """Slopes of the loss around an element."""

    left: float
    central: float
    right: float
    noise: float
    """What rounding may make of them."""

    def near(self, other: float, tolerance: float) -> float:
        """How far another slope may be from the central one."""
        return tolerance * max(abs(other), abs(self.central)) + self.noise

    @property
    def jump(self) -> float:
        """By how much the slopes to both sides differ, if no smooth loss has that at such a step; else 0."""
        jump = abs(self.right - self.left)
        return jump if jump > KINK * max(abs(self.right), abs(self.left)) + self.noise else 0.0


class _Losses(NamedTuple):
    """The loss around some arrays."""

    loss: Callable[[Mapping[str, Array]], float]
    wide: dict[str, Array]
    middle: float
    """The loss at the arrays."""

    @np.errstate(all="ignore")
    def difference(self, name: str, place: Shape, points: tuple[float, float, float]) -> _Difference:
        """The slopes between three points, the middle one of which the element has."""
        array, (below, at, above) = self.wide[name], np.array(points)
        array[place] = above
        upper = np.float64(self.loss(self.wide))
        array[place] = below
        lower = np.float64(self.loss(self.wide))
        array[place] = at
        largest = max(map(abs, (lower, self.middle, upper)))
        return _Difference(
            left=float((self.middle - lower) / (at - below)),
            central=float((upper - lower) / (above - below)),
            right=float((upper - self.middle) / (above - at)),
            noise=float(ROUNDING * np.finfo(np.float64).eps * largest / (above - below)),
        )


@np.errstate(all="ignore")
def _probe(losses: _Losses, source: Source, place: Shape, analytic: float, settings: Settings) -> _Probe:
    """An element of the gradient beside the difference of the losses around it."""
    at, tolerance = float(losses.wide[source.name][place]), settings.tolerance
    own = losses.difference(source.name, place, _points(source, place, at, settings.step))
    if isfinite(own.central) and abs(analytic - own.central) <= own.near(analytic, tolerance):
        return _Probe(place, analytic, own.central, agrees=True)
    smaller = _smaller(settings.step, at)
    other = losses.difference(source.name, place, _points(source, place, at, smaller))
    if own.jump and other.jump > STAYS * own.jump:
        near, (low, high) = own.near(analytic, tolerance), sorted((own.left, own.right))
        return _Probe(place, analytic, own.central, agrees=low - near <= analytic <= high + near)
    known = isfinite(losses.middle) and isfinite(analytic)
    alike = isfinite(own.central)
    alike = alike and abs(own.central - other.central) <= own.near(other.central, tolerance) + other.noise
    return _Probe(place, analytic, own.central, agrees=False, step_too_large=known and not alike)


def _smaller(step: float, at: float) -> float:
    """A smaller step, or the step where a smaller one would be lost in an element."""
    move = SMALLER * step * max(1.0, abs(at))
    return SMALLER * step if at - move < at < at + move else step


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
        step_too_large=worst.step_too_large,
    )
