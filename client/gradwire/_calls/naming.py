"""Names for the operations that a traced function assigns to variables, so that errors and reports have them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from gradwire._expressions.expression import Expression
from gradwire._expressions.node import postorder


def call_and_name(
    function: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any], sources: Mapping[str, Expression]
) -> Any:  # noqa: ANN401  (whatever it returns)
    """The function's result; what it made of the sources and holds in variables has their names.

    Its frame is caught as it begins, and outlives it: that costs nothing in between.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    caught: list[FrameType] = []

    def catch(frame: FrameType, _: str, __: object) -> None:
        if frame.f_code is code:
            sys.setprofile(None)
            caught.append(frame)

    # A profiler that somebody else has set goes on undisturbed.
    watched = code is not None and sys.getprofile() is None
    if watched:
        sys.setprofile(catch)
    try:
        result = function(*given, **named)
    finally:
        if watched:
            sys.setprofile(None)
    if caught:
        _name(caught[0].f_locals, sources)
    return result


def _name(variables: Mapping[str, object], sources: Mapping[str, Expression]) -> None:
    found = {name: value for name, value in variables.items() if isinstance(value, Expression)}
    used = {node.name for node in postorder(*found.values())}
    made: set[int] = {id(source) for source in sources.values()}
    for node in postorder(*found.values()):
        if any(id(operand) in made for operand in node.operands):
            made.add(id(node))
    # What stands on a source of this trace was made in it, so that nobody else has it yet.
    for name, node in found.items():
        if id(node) in made and node.operands and not node.name and name not in used:
            node.name = name
