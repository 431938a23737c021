"""The gradient of a loss as expressions, nested like what it is in."""

from __future__ import annotations

from typing import TypeVar

from gradwire._calls.arguments import flattened
from gradwire._errors import InvalidGraphError
from gradwire._expressions.derivatives import gradients
from gradwire._expressions.expression import Expression

T = TypeVar("T")


def gradient(loss: Expression, wrt: T, *, ties: str = "zero") -> T:
    """The gradient of a loss as expressions, to be differentiated again, penalised, or returned as an output.

    It is that of the loss of ONE example, where sources are finite; where one is not, the engine's own gradient
    may have zeros that this has not. Second derivatives are gradients of gradients:
    ``gw.gradient(gw.sum(gw.gradient(loss, w) * v), w)`` is a Hessian-vector product.

    Args:
        loss: A scalar expression.
        wrt: What to differentiate in: sources, or expressions on the way to the loss; one, or a pytree of them, such as
            the parameters that a traced function gets.
        ties: As for ``gw.graph``; give the graph that the gradient is in the same.

    Returns:
        A gradient in place of each expression of ``wrt``, in its shape for one example; zeros where the loss does not
        depend on it.

    Raises:
        InvalidGraphError: The loss is no scalar expression, or ``wrt`` holds anything but expressions.
    """
    if isinstance(wrt, Expression):
        return gradients(loss, [wrt], ties)[0]  # type: ignore[return-value]  # T is Expression
    leaves, spec = flattened(wrt, sequences=True)
    if wrt is None or (len(leaves) == 1 and leaves[0] is wrt):
        raise InvalidGraphError(f"gradient in {wrt!r:.200}; give an expression, or a list or dict of expressions")
    nested: T = spec.unflatten(gradients(loss, leaves, ties))
    return nested
