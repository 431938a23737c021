"""Models of ONNX as expressions, node by node. Needs ``gradwire[onnx]``."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnx.parser import ParseError
from onnx.reference import ReferenceEvaluator

from gradwire._arrays import Array
from gradwire._errors import InvalidGraphError, InvalidRequestError
from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import postorder
from gradwire_imports.onnx_constants import constants_of
from gradwire_imports.onnx_learned import RULES as LEARNED
from gradwire_imports.onnx_operand import Call
from gradwire_imports.onnx_places import RULES as OF_PLACES
from gradwire_imports.onnx_rules import RULES
from gradwire_imports.values import Gaps, Indices, Missing, Value, evaluate, is_known

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def from_onnx(
    model: str | PathLike[str] | onnx.ModelProto, *, outputs: str | Sequence[str] | None = None
) -> tuple[dict[str, Expression], dict[str, Array]]:
    """A model of ONNX: its outputs as expressions, by name, and the arrays of its parameters, which can be trained on.

    ::

        outputs, params = gw.from_onnx("model.onnx")
        loss = gw.sum(gw.square(outputs["y"] - gw.input("target", shape=(3,), per_example=True)))
        value, grads = client.value_and_grad(loss)(params, x=x, target=target)

    Initializers of floats become parameters, and so do the coefficients that models of ``ai.onnx.ml`` hold; what an
    operator needs as a number, exponents and the running statistics of a BatchNormalization among them, stays constant.
    So do the buffers of a module that PyTorch exported by way of ``torch.export``, and the numbers in its code.

    An input whose first dimension has no size is ``per_example``: the model is read for a batch of one, and that axis
    is left out of inputs and outputs. Where a model mixes the examples of a batch, each is alone. All other dimensions
    have sizes.

    Args:
        model: A file, or what ``onnx.load`` gives.
        outputs: Names of the tensors to give, of any node. None: the outputs of the model.

    Raises:
        InvalidGraphError: It has no outputs, or uses what cannot be an expression; all of it is listed, by its names in
            ONNX.
        InvalidRequestError: The file holds no model, or the model no tensor of a name.
        OSError: The file cannot be read.
    """
    loaded = model if isinstance(model, onnx.ModelProto) else _loaded(model)
    graph = loaded.graph
    reader = _Reader({item.domain: item.version for item in loaded.opset_import}, loaded.functions)
    wanted = [outputs] if isinstance(outputs, str) else list(outputs or [output.name for output in graph.output])
    if not wanted:
        raise InvalidGraphError("the model has no outputs; it may be cut short, or empty")
    names = {name for node in graph.node for name in node.output} | {own.name for own in graph.initializer}
    absent = [name for name in wanted if name not in names and name not in {own.name for own in graph.input}]
    if absent:
        raise InvalidRequestError(f'the model has no tensor "{absent[0]}"; its outputs are {_listed(graph.output)}')
    reader.initialize(graph)
    reader.run(_needed(graph.node, wanted))
    for name in wanted:
        reader.check(name)
    reader.gaps.check("the model")
    found = {name: reader.result(name) for name in wanted}
    used = {node.name for node in postorder(*found.values()) if node.kind == "parameter"}
    return found, {name: array for name, array in reader.arrays.items() if name in used}


def _loaded(path: str | PathLike[str]) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (ValueError, DecodeError, json_format.ParseError, text_format.ParseError, ParseError) as error:
        raise InvalidRequestError(f"{fspath(path)} holds no model of ONNX: {error}") from None
    except onnx.checker.ValidationError as error:
        raise InvalidRequestError(f"{fspath(path)} lacks a file of its tensors: {error}") from None


def _listed(values: Any) -> str:
    return ", ".join(value.name for value in values)


def _needed(nodes: Sequence[Any], wanted: Sequence[str]) -> list[Any]:
    """The nodes that these tensors depend on."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
            needed |= {
                name for own in node.attribute if own.HasField("g") for part in own.g.node for name in part.input
            }
    return kept[::-1]


class _Reader:
    """The tensors of a model by name, as far as it has been read."""

    def __init__(self, opsets: dict[str, int], functions: Sequence[Any]) -> None:
        self.gaps = Gaps()
        self.arrays: dict[str, Array] = {}
        """Parameters' arrays, by name."""
        self._opsets = opsets
        self._functions = {(own.domain, own.name): own for own in functions}
        self._held: dict[str, Value] = {"": None}
        self._examples: set[int] = set()
        """Ids of the inputs that are per example."""

    def initialize(self, graph: Any) -> None:
        """Make sources of initializers and inputs."""
        is_constant = constants_of(graph)
        for tensor in graph.initializer:
            array = numpy_helper.to_array(tensor)
            learned = tensor.data_type in _FLOATS and not is_constant(tensor.name, array.ndim)
            self._held[tensor.name] = self.learned(tensor.name, array) if learned else array
        for value in graph.input:
            if value.name not in self._held:
                self._held[value.name] = self._input(value)

    def learned(self, name: str, array: Array) -> Expression:
        """A parameter with its array."""
        self.arrays[name] = np.asarray(array, np.float64 if array.dtype == np.float64 else np.float32)
        return gw.parameter(name, array.shape)

    def _input(self, value: Any) -> Value:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            self.gaps.note(f"input {value.name}", "no tensor")
            return Missing()
        sizes = [own.dim_value if own.HasField("dim_value") else None for own in tensor.shape.dim]
        each = bool(sizes) and sizes[0] is None
        shape = [size for size in (sizes[1:] if each else sizes) if size is not None]
        if len(shape) != len(sizes) - each:
            raise InvalidGraphError(
                f'input "{value.name}" has dimensions without sizes beside the first one; give them sizes, as '
                "onnx.tools.update_model_dims does",
                node=value.name,
            )
        if tensor.elem_type not in _FLOATS:
            whole = tensor.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
            if whole:
                rows = gw.input(value.name, shape, per_example=each, dtype="int64")
                return Indices(rows, (1, *shape) if each else rows.shape)
            self.gaps.note(f"input {value.name}", f"of {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()}")
            return Missing()
        node = gw.input(value.name, shape, per_example=each)
        if not each:
            return node
        self._examples.add(id(node))
        return gw.reshape(node, (1, *shape))

    def check(self, name: str) -> None:
        """Note an output that is no tensor of numbers, such as labels."""
        value = self._held.get(name)
        if isinstance(value, Missing | Indices) and not self.gaps.found:
            self.gaps.note(f"output {name}", "labels or other values without a derivative; choose others with outputs=")

    def result(self, name: str) -> Expression:
        """An output for one example, without the axis of a batch of one."""
        value = self._held[name]
        node = value if isinstance(value, Expression) else as_expression(np.asarray(value))
        batched = any(own.kind == "input" and own.attributes["per_example"] for own in postorder(node))
        return gw.reshape(node, node.shape[1:]) if batched and node.shape[:1] == (1,) else node

    def run(self, nodes: Sequence[Any]) -> None:
        """Read nodes, in their order."""
        for node in nodes:
            results = self._step(node)
            self._held.update(zip(node.output, results, strict=False))

    def _step(self, node: Any) -> Sequence[Value]:
        operands = [self._held[name] for name in node.input]
        domain = "" if node.domain == "ai.onnx" else node.domain
        name = f"{domain}.{node.op_type}" if domain else node.op_type
        if (node.domain, node.op_type) in self._functions:
            return self._called(node, operands)
        rule = LEARNED.get(node.op_type) if domain == "ai.onnx.ml" else None if domain else RULES.get(node.op_type)
        if any(isinstance(operand, Missing) for operand in operands):
            if rule is None:
                self.gaps.note(name)
            return [Missing()] * len(node.output)
        if any(isinstance(operand, Indices) for operand in operands) and rule is not None and name not in OF_PLACES:
            self.gaps.note(name, "of row indices")
            return [Missing()] * len(node.output)
        if all(operand is None or is_known(operand) for operand in operands):
            result = evaluate(self.gaps, name, self._folded, node, operands)
        else:
            call = Call(node, self._opsets.get(node.domain, self._opsets.get("", 1)), self.arrays, self.learned)
            result = evaluate(self.gaps, name, rule, call, *operands)
        if isinstance(result, Missing):
            return [result] * len(node.output)
        return result if isinstance(result, list | tuple) else [result]

    def _folded(self, node: Any, operands: Sequence[Value]) -> Sequence[Value]:
        """What ONNX's reference says of arrays."""
        given = {name: operand for name, operand in zip(node.input, operands, strict=True) if name}
        inputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in given]
        results = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "folded", inputs, results)
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        try:
            found = iter(ReferenceEvaluator(model).run(None, given))
        except Exception as error:  # whatever the reference raises
            raise InvalidGraphError(str(error)[:100]) from error
        return [next(found) if name else None for name in node.output]

    def _called(self, node: Any, operands: Sequence[Value]) -> Sequence[Value]:
        """The results of a function that the model brings along."""
        function = self._functions[node.domain, node.op_type]
        given = {own.name: own for own in function.attribute_proto} | {own.name: own for own in node.attribute}
        kept, self._held = self._held, {"": None, **dict(zip(function.input, operands, strict=False))}
        for own in function.node:
            body = onnx.NodeProto()
            body.CopyFrom(own)
            for attribute in body.attribute:
                if attribute.ref_attr_name and attribute.ref_attr_name in given:
                    name = attribute.name
                    attribute.CopyFrom(given[attribute.ref_attr_name])
                    attribute.name = name
            self.run([body])
        results = [self._held[name] for name in function.output]
        self._held = kept
        return results
