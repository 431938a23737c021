"""Losses over more data than one machine holds, by Dask: tasks read files, and compute. Needs ``gradwire[dask]``.

import gradwire.dask

step = gradwire.dask.value_and_grad(loss, "data/*.parquet")
value, gradients = step(w=w)
"""

from gradwire._errors import lacking

try:
    from gradwire_server.units.dask import value_and_grad
except ModuleNotFoundError as error:
    raise lacking(error, "dask") from None

__all__ = ["value_and_grad"]
