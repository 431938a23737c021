"""Pytrees as vectors, for optimizers that know nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire._arrays import Array, as_array
from gradwire._calls.arguments import flattened
from gradwire._calls.forms import leaf_names
from gradwire._errors import InvalidRequestError


def ravel_pytree(tree: Any) -> tuple[Array, Callable[[Array], Any]]:  # noqa: ANN401  (a pytree)
    """All arrays of a pytree as one vector, and the function that nests such a vector again.

    ::

        start, unravel = gw.ravel_pytree(params)


        def loss_of(vector):
            value, grads = step(unravel(vector), x=x, y=y)
            return value, gw.ravel_pytree(grads)[0]


        scipy.optimize.minimize(loss_of, start, jac=True)
    """
    leaves, spec = flattened(tree, sequences=True)
    arrays = [as_array(name, leaf) for name, leaf in zip(leaf_names("tree", spec), leaves, strict=True)]
    shapes = [array.shape for array in arrays]
    ends = np.cumsum([array.size for array in arrays], dtype=int)[:-1]
    size = sum(array.size for array in arrays)
    vector = np.concatenate([np.ravel(array) for array in arrays]) if arrays else np.zeros(0)

    def unravel(vector: Array) -> Any:  # noqa: ANN401  (a pytree)
        given = np.asarray(vector)
        if given.shape != (size,):
            raise InvalidRequestError(f"a vector of shape {given.shape}; the pytree has {size} elements in all")
        parts = np.split(given, ends) if arrays else []
        return spec.unflatten([part.reshape(shape)[()] for part, shape in zip(parts, shapes, strict=True)])

    return vector if vector.dtype.kind == "f" else vector.astype(float), unravel
