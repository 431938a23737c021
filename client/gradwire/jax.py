"""Losses as functions of JAX: under ``jit``, ``vmap`` and ``grad``. Needs ``gradwire[jax]``.

import gradwire.jax

hinge = gradwire.jax.function(client, loss, per_example=("phi", "y"))
slope = jax.grad(hinge)(w, phi, y)
"""

from gradwire._errors import lacking

try:
    from gradwire_imports.to_jax import function
except ModuleNotFoundError as error:
    raise lacking(error, "jax") from None

__all__ = ["function"]
