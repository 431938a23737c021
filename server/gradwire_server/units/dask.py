"""Units by Dask: tasks read files, and compute. Callers have it as ``gradwire.dask``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import dask

from gradwire._calls.computation import Loss, Options
from gradwire_server.units.columns import Names
from gradwire_server.units.much import MAX_UNIT_BYTES, MuchData
from gradwire_server.units.sums import sum_over
from gradwire_server.units.tree import blocks

TAKERS = 16
"""Tasks that are computed at a time, about: Dask shares them out by itself."""


def value_and_grad(
    loss: Loss,
    files: Any,
    *,
    columns: Names | None = None,
    max_unit_bytes: int = MAX_UNIT_BYTES,
    **options: Unpack[Options],
) -> Callable[..., tuple[Any, Any]]:
    """A callable that gives the loss over all rows of files, and its gradients, with the bits of ``gradwire.ray``.

    Its tasks go to the client of ``dask.distributed`` that there is, or else to Dask's scheduler. Arguments and errors
    are those of ``gradwire.ray.value_and_grad``, without actors.
    """
    data = MuchData(loss, files, columns, max_unit_bytes, options)

    def step(*arrays: Any, **named: Any) -> tuple[Any, Any]:
        asked = data.asked(arrays, named)
        program, shared = dask.delayed(asked.program, traverse=False), dask.delayed(asked.arrays, traverse=False)
        task = dask.delayed(sum_over, pure=False)
        result = data.answer(
            asked, dask.compute(*[task(program, shared, units) for units in blocks(data.units, TAKERS)])
        )
        return result.loss, result.gradients

    return step
