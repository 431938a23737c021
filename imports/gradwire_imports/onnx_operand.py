"""A node of ONNX as rules see it: its attributes, and operands that must be numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from gradwire._arrays import Array
from gradwire._expressions.expression import Expression
from gradwire_imports.values import Unsupported, Value, is_known


class Call:
    """A node of a model.

    Args:
        node: Its message.
        opset: Version of its operators.
        arrays: The parameters' arrays.
        learned: What makes a parameter of a name and an array.
    """

    def __init__(
        self, node: Any, opset: int, arrays: dict[str, Array], learned: Callable[[str, Array], Expression]
    ) -> None:
        self.name = node.name or node.output[0]
        self.kind = node.op_type
        self.results = len([name for name in node.output if name])
        self.output_count = len(node.output)
        self.opset = opset
        self.learned = learned
        self._arrays = arrays
        self._attributes = {own.name: onnx.helper.get_attribute_value(own) for own in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; bytes as text."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def known(self, operand: Value, what: str) -> Any:
        """The array of an operand that must be one, None for one that is left out; a parameter's becomes a constant."""
        if operand is None:
            return None
        if isinstance(operand, Expression):
            if operand.kind != "parameter":
                raise Unsupported(f"with {what} computed from inputs")
            return self._arrays[operand.name]
        if not is_known(operand):
            raise Unsupported(f"with unknown {what}")
        return np.asarray(operand)

    def integers(self, operand: Value, what: str) -> Any:
        """The integers of an operand that must be known."""
        array = self.known(operand, what)
        return None if array is None else [int(number) for number in array.ravel()]
