"""Sources: the tensors that calls supply by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradwire._arrays import INT64, dtype_of
from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression
from gradwire._expressions.node import checked_name
from gradwire._expressions.shapes import as_shape, flag


def parameter(name: str, shape: int | Sequence[int] = ()) -> Expression:
    """A tensor that calls supply under ``name`` and that the loss is differentiated in.

    Args:
        name: Unique in the graph.
        shape: Its shape; ``()`` is a scalar.
    """
    checked_name(name)
    return Expression("parameter", as_shape(shape, name), name=name)


def input(  # noqa: A001  (what every framework calls it; use it as gw.input)
    name: str, shape: int | Sequence[int] = (), *, per_example: bool = False, dtype: object = None
) -> Expression:
    """A tensor of data that calls supply under ``name``.

    Args:
        name: Unique in the graph.
        shape: Shape for one example.
        per_example: Whether each example has its own; calls then supply ``[N, *shape]``.
        dtype: ``"int64"`` for row indices of ``gw.take``; ``"bool"`` for a mask, of True and False or 1 and 0;
            otherwise the float dtype of the call.
    """
    checked_name(name)
    attributes: dict[str, Any] = {"per_example": flag("per_example", per_example)}
    found = None if dtype is None else dtype_of(dtype)
    if found == INT64:
        attributes["dtype"] = "int64"
    elif dtype is not None and (found is None or found.kind != "b"):
        raise InvalidGraphError(
            f'input "{name}" has dtype {dtype!r}; give "int64" for row indices, "bool" for a mask, and nothing for '
            "floats",
            node=name,
        )
    mask = found is not None and found.kind == "b"
    return Expression("input", as_shape(shape, name), name=name, attributes=attributes, mask=mask)
