"""Losses over more data than one machine holds: actors of Ray read files, and compute. Needs ``gradwire[ray]``.

import gradwire.ray

step = gradwire.ray.value_and_grad(loss, "data/*.parquet")
value, gradients = step(w=w)
"""

from gradwire._errors import lacking

try:
    from gradwire_server.units.ray import ValueAndGrad, value_and_grad
except ModuleNotFoundError as error:
    raise lacking(error, "ray") from None

__all__ = ["ValueAndGrad", "value_and_grad"]
