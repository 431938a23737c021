"""Losses and other functions as disciplines of Philote-MDO, which OpenMDAO calls. Needs ``gradwire[philote]``.

import gradwire.philote

wing = gradwire.philote.Discipline(client, lambda span, chord: {"area": span * chord}, {"span": (), "chord": ()})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from philote_mdo.general import ExplicitDiscipline

from gradwire._arrays import Array
from gradwire._client import Client
from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import Shape, postorder
from gradwire._expressions.primitives import concatenate, reshape
from gradwire._expressions.sources import parameter


class Discipline(ExplicitDiscipline):  # type: ignore[misc]  # it has no types
    """Outputs that the engine computes in one call, and all their partial derivatives in another.

    Philote serves it by its ``ExplicitServer``, and ``philote_mdo.openmdao.RemoteExplicitComponent`` is its client.
    Scalars have the shape ``(1,)`` there.

    Args:
        client: Made by ``gw.connect``.
        function: Makes outputs by name, expressions of any shape, of expressions by name.
        shapes: Shapes of the inputs by name.
        units: Units of inputs and outputs by name, as OpenMDAO writes them; what is not there has none.

    Raises:
        InvalidGraphError: The function returns something else, or breaks a rule of graphs.
    """

    def __init__(
        self,
        client: Client,
        function: Callable[..., Mapping[str, Expression]],
        shapes: Mapping[str, Shape],
        units: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        made = function(**{name: parameter(name, shape) for name, shape in shapes.items()})
        if not isinstance(made, Mapping) or not made:  # type: ignore[redundant-expr]  # as a caller gives it
            raise InvalidGraphError(f"a discipline returns outputs by name; found {type(made).__name__}")
        nodes = {name: as_expression(node) for name, node in made.items()}
        self._units = dict(units or {})
        self._inputs = dict(shapes)
        self._outputs = {name: node.shape for name, node in nodes.items()}
        self._needed = {
            name: [own.name for own in postorder(node) if own.kind == "parameter"] for name, node in nodes.items()
        }
        """Inputs that each output depends on."""
        self._used = [name for name in shapes if any(name in needed for needed in self._needed.values())]
        joined = concatenate([reshape(node, (node.size,)) for node in nodes.values()])
        self._ends = np.cumsum([node.size for node in nodes.values()])
        self._ones = np.ones(joined.size)
        self._values = client.vjp(joined, wrt=())
        self._jacobian = client.jacobian(joined, wrt=self._used)

    def setup(self) -> None:
        """Tell Philote the inputs and outputs."""
        for add, shapes in ((self.add_input, self._inputs), (self.add_output, self._outputs)):
            for name, shape in shapes.items():
                add(name, shape=shape or (1,), units=self._units.get(name, ""))

    def setup_partials(self) -> None:
        """Tell Philote which inputs each output depends on."""
        for output, needed in self._needed.items():
            for name in needed:
                self.declare_partials(output, name)

    def compute(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> None:
        """Put the values of the outputs in their places."""
        values, _ = self._values(self._ones, **self._arrays(inputs))
        for (name, shape), part in zip(self._outputs.items(), np.split(values, self._ends[:-1]), strict=True):
            outputs[name] = part.reshape(shape or (1,))

    def compute_partials(self, inputs: Mapping[str, Array], partials: dict[tuple[str, str], Array]) -> None:
        """Put the derivatives in their places."""
        found: dict[str, Array] = self._jacobian(**self._arrays(inputs))
        for name, jacobian in found.items():
            for output, rows in zip(self._outputs, np.split(jacobian, self._ends[:-1]), strict=True):
                if name in self._needed[output]:
                    partials[output, name] = rows.reshape(len(rows), prod(self._inputs[name]))

    def _arrays(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        return {name: np.reshape(inputs[name], self._inputs[name]) for name in self._used}
