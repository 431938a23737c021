"""Functions as components of OpenMDAO, which callers have as ``gradwire.openmdao``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from openmdao.api import ExplicitComponent

from gradwire._arrays import Array
from gradwire._client import Client
from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import Shape, postorder
from gradwire._expressions.primitives import concatenate, reshape
from gradwire._expressions.sources import parameter


class Component(ExplicitComponent):  # type: ignore[misc]  # it has no types
    """Outputs that the engine computes in one call, and all their partial derivatives in another.

    Scalars have the shape ``(1,)`` in OpenMDAO.

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
            raise InvalidGraphError(f"a component returns outputs by name; found {type(made).__name__}")
        nodes = {name: as_expression(node) for name, node in made.items()}
        self._units_of = dict(units or {})
        self._input_shapes = dict(shapes)
        self._output_shapes = {name: node.shape for name, node in nodes.items()}
        self._inputs_of = {
            name: [own.name for own in postorder(node) if own.kind == "parameter"] for name, node in nodes.items()
        }
        """Inputs that each output depends on."""
        self._used_inputs = [name for name in shapes if any(name in needed for needed in self._inputs_of.values())]
        joined = concatenate([reshape(node, (node.size,)) for node in nodes.values()])
        self._ends = np.cumsum([node.size for node in nodes.values()])
        self._ones = np.ones(joined.size)
        self._values_of = client.vjp(joined, wrt=())
        self._jacobian_of = client.jacobian(joined, wrt=self._used_inputs)

    def setup(self) -> None:
        """Tell OpenMDAO the inputs and outputs."""
        for add, shapes in ((self.add_input, self._input_shapes), (self.add_output, self._output_shapes)):
            for name, shape in shapes.items():
                add(name, shape=shape or (1,), units=self._units_of.get(name))

    def setup_partials(self) -> None:
        """Tell OpenMDAO which inputs each output depends on."""
        for output, needed in self._inputs_of.items():
            for name in needed:
                self.declare_partials(output, name)

    def compute(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> None:
        """Put the values of the outputs in their places."""
        values, _ = self._values_of(self._ones, **self._arrays(inputs))
        for (name, shape), part in zip(self._output_shapes.items(), np.split(values, self._ends[:-1]), strict=True):
            outputs[name] = part.reshape(shape or (1,))

    def compute_partials(self, inputs: Mapping[str, Array], partials: dict[tuple[str, str], Array]) -> None:
        """Put the derivatives in their places."""
        found: dict[str, Array] = self._jacobian_of(**self._arrays(inputs))
        for name, jacobian in found.items():
            for output, rows in zip(self._output_shapes, np.split(jacobian, self._ends[:-1]), strict=True):
                if name in self._inputs_of[output]:
                    partials[output, name] = rows.reshape(len(rows), prod(self._input_shapes[name]))

    def _arrays(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        return {name: np.reshape(inputs[name], self._input_shapes[name]) for name in self._used_inputs}
