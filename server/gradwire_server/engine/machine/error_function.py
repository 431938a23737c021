"""The error function, by the rules of ``functions``.

Both polynomials are near to minimax, weighted so that the relative error of erf counts: made with Remez' algorithm in
200 bits, the coefficients rounded one after the other and the rest fitted anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign
from typing import Any, NamedTuple

import numpy as np
from numba import types

from gradwire_server.engine.machine.functions import exp_of_minus
from gradwire_server.engine.machine.instructions import compiled, constants, fma, polynomial


class _Erf(NamedTuple):
    one: float
    """The seam of the polynomials, too."""

    highest: float
    """From here on erf is 1 by rounding."""

    inner: Sequence[float]
    """erf(x) / x - 1, in x^2, for |x| <= 1."""

    outer: Sequence[float]
    """-ln(1 - erf(x)), in x, from 1 to the highest."""


def _erf_of(real: type[np.floating[Any]], highest: float, inner: Sequence[float], outer: Sequence[float]) -> _Erf:
    return _Erf(real(1), real(highest), tuple(map(real, inner)), tuple(map(real, outer)))  # type: ignore[arg-type]


_constants = constants(
    {
        types.float64: _erf_of(
            np.float64,
            5.95,
            # Relative error 2^-56.0.
            (
                0.12837916709551256,
                -0.37612638903183343,
                0.1128379167093695,
                -0.026866170641959137,
                0.005223977596735833,
                -0.0008548325484995133,
                0.0001205528049640519,
                -1.4924465634494153e-05,
                1.6444150461856936e-06,
                -1.6183989793681822e-07,
                1.3616689793674614e-08,
                -7.607785547955685e-10,
            ),
            # 2^-58.1.
            (
                1.7959758816324732e-07,
                1.1283773294879003,
                0.6366284878871088,
                0.10274725505522035,
                -0.019078160714298714,
                -0.0002804815439469605,
                0.0017689929504804357,
                -0.0006411660857065338,
                4.481796162528531e-05,
                7.036905886255727e-05,
                -4.503840876024982e-05,
                1.6514290696740298e-05,
                -4.3271388924628735e-06,
                8.5059569430494e-07,
                -1.2570868436770608e-07,
                1.3627194345474965e-08,
                -1.0257472295573065e-09,
                4.7963256075175745e-11,
                -1.0497116977933412e-12,
            ),
        ),
        types.float32: _erf_of(
            np.float32,
            4,
            # 2^-29.4.
            (
                0.12837916612625122,
                -0.3761262595653534,
                0.11283578723669052,
                -0.026853347197175026,
                0.005187162198126316,
                -0.0007997853099368513,
                7.806903158780187e-05,
            ),
            # 2^-29.7.
            (
                0.0003415585670154542,
                1.127089023590088,
                0.6381451487541199,
                0.10310644656419754,
                -0.021837901324033737,
                0.002947614062577486,
                -0.0001863743382273242,
            ),
        ),
    }
)


@compiled
def erf(x: float) -> float:
    """The error function, 2 / sqrt(pi) times the integral of e^-t^2 from 0 to x."""
    c = _constants(x)
    y = min(abs(x), c.highest)
    inner = fma(y, polynomial(y * y, c.inner), y)
    outer = c.one - exp_of_minus(polynomial(y, c.outer))
    return copysign(inner if y < c.one else outer, x)
