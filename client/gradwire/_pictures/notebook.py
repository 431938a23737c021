"""Expressions as pictures in notebooks; what draws them is imported when the first one is shown."""

from __future__ import annotations

from gradwire._expressions.expression import Expression
from gradwire._expressions.tables import SHOWN
from gradwire._graphs.graph import graph


def _svg(expression: Expression) -> str | None:
    from gradwire._pictures.saving import svg_of  # noqa: PLC0415  (only pictures need it)

    return svg_of(graph(expression)) if expression.shape == () else None


SHOWN["image/svg+xml"] = _svg
