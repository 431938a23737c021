"""Functions of NumPy that build nothing, with what to write instead."""

from __future__ import annotations

import numpy as np

from gradwire._expressions.tables import NEEDING_VALUES, UNBUILT

_ORDER = "an order depends on values, and has no derivative; gw.max and gw.min are there, and softmax for a soft choice"
_COUNT = "how many entries there are depends on values; write masks, such as x > 0, and reduce gw.where(mask, x, 0)"
_MASK = "compare with a tolerance, np.abs(x - y) < 1e-9, and reduce the mask with np.all or np.any"
_STEP = "a step has no derivative; do it to constants, or to results after the call"

_SORTED = (
    "an order depends on values; find it before the call, and pick by an input of integers: order = gw.input('order', "
    "n, dtype='int64'), then x[order], or x[order[0]]; gw.max and gw.min are there"
)

for _functions, _instead in (
    ((np.sort, np.median, np.nanmedian, np.quantile, np.nanquantile, np.percentile, np.nanpercentile), _SORTED),
    (
        (
            np.argmax,
            np.argmin,
            np.argsort,
            np.argpartition,
            np.partition,
            np.nanmax,
            np.searchsorted,
            np.digitize,
            np.lexsort,
            np.nanmin,
            np.nanargmax,
            np.nanargmin,
        ),
        _ORDER,
    ),
    (
        (
            np.nonzero,
            np.unique,
            np.unique_all,
            np.unique_counts,
            np.unique_inverse,
            np.unique_values,
            np.flatnonzero,
            np.argwhere,
            np.histogram,
            np.extract,
            np.isin,
            np.intersect1d,
            np.union1d,
            np.setdiff1d,
            np.setxor1d,
            np.trim_zeros,
        ),
        _COUNT,
    ),
    (
        (
            np.floor,
            np.ceil,
            np.rint,
            np.trunc,
            np.fix,
            np.remainder,
            np.fmod,
            np.floor_divide,
            np.divmod,
            np.modf,
            np.round,
            np.nextafter,
            np.spacing,
            np.gcd,
            np.lcm,
            np.signbit,
            np.frexp,
            np.unwrap,
        ),
        _STEP,
    ),
    ((np.allclose, np.isclose, np.array_equal, np.array_equiv), _MASK),
):
    NEEDING_VALUES.update(dict.fromkeys(_functions, _instead))

_SOLVE = (
    "no factorisation is an op; make what it gives an input that you compute before, or a parameter x that a penalty "
    "such as gw.sum((A @ x - b) ** 2) holds to what it must be"
)
_COMPLEX = "numbers are real; give real and imaginary parts by themselves, and a transform as a product with constants"

for _functions, _instead in (
    (
        (
            np.linalg.det,
            np.linalg.slogdet,
            np.linalg.inv,
            np.linalg.pinv,
            np.linalg.solve,
            np.linalg.lstsq,
            np.linalg.cholesky,
            np.linalg.qr,
            np.linalg.eig,
            np.linalg.eigh,
            np.linalg.eigvals,
            np.linalg.eigvalsh,
            np.linalg.svd,
            np.linalg.svdvals,
            np.linalg.cond,
            np.linalg.matrix_rank,
            np.linalg.tensorinv,
            np.linalg.tensorsolve,
        ),
        _SOLVE,
    ),
    ((*(getattr(np.fft, name) for name in np.fft.__all__), np.angle), _COMPLEX),
    ((np.piecewise, np.choose), "write np.select, or np.where for two choices"),
    (
        (np.put, np.place, np.putmask, np.copyto, np.fill_diagonal, np.put_along_axis),
        "expressions do not change; write np.where(mask, value, x)",
    ),
):
    UNBUILT.update(dict.fromkeys(_functions, _instead))
