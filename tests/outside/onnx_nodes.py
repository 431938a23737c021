"""The node tests of ONNX's own backend suite, which come with its wheel, played through ``gw.from_onnx``."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_node_model_tests

import gradwire as gw
from gradwire._expressions.node import postorder

PASSED, REFUSED, APART = "passed", "refused", "apart"
"""What becomes of a case; ``apart`` are sequences, maps, optionals and text, which are no tensors of numbers."""


def cases() -> dict[str, Any]:
    """All cases by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_node_model_tests()}


def _is_tensor(value: Any, array: Any) -> bool:
    numbers = isinstance(array, np.ndarray | np.generic) and np.asarray(array).dtype.kind in "biuf"
    return bool(value.type.HasField("tensor_type")) and numbers


def played(client: gw.Client, case: Any) -> tuple[str, str]:
    """What becomes of a case, and the words of a refusal.

    Integers and masks are put into the model, as axes and shapes are; floats are inputs.

    Raises:
        AssertionError: A number is wrong.
    """
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, expected = case.data_sets[0]
    graph, arrays = model.graph, {}
    for value, array in [*zip(list(graph.input), inputs), *zip(graph.output, expected)]:  # noqa: B905
        if not _is_tensor(value, array):
            return APART, ""
    for value, array in zip(list(graph.input), inputs):  # noqa: B905  (some are left out)
        if np.asarray(array).dtype.kind == "f":
            arrays[value.name] = np.asarray(array, np.float64)
        else:
            graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
            graph.input.remove(value)
    try:
        outputs, parameters = gw.from_onnx(model)
    except gw.InvalidGraphError as error:
        return REFUSED, str(error)
    for value, array in zip(graph.output, expected, strict=True):
        found = _evaluated(client, outputs[value.name], {**arrays, **parameters})
        rtol, atol = (1e-2, 1e-2) if np.asarray(array).dtype.itemsize < 4 else (max(case.rtol, 1e-5), 1e-5)
        what = f"{case.name}: {value.name}"
        np.testing.assert_allclose(found, np.asarray(array, np.float64), rtol, atol, err_msg=what)
        assert found.shape == array.shape
    return PASSED, ""


def _evaluated(client: gw.Client, node: gw.Expression, arrays: dict[str, Any]) -> Any:
    """The value of an expression of any shape."""
    shown = gw.reshape(node, (1, *node.shape)).named("shown")
    sources = {own.name for own in postorder(shown) if own.kind in ("parameter", "input")}
    call = client.value_and_grad(gw.sum(shown), outputs={"shown": shown}, dtype="float64")
    return call.evaluate({name: arrays[name] for name in sources}).outputs["shown"][0]
