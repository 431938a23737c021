"""Every node test of ONNX passes or is refused by name; none is wrong."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.backend.test.loader import DATA_DIR

import gradwire as gw
from tests.outside.onnx_nodes import APART, PASSED, REFUSED, cases, played

SAMPLE = (
    "test_add_bcast", "test_averagepool_2d_ceil", "test_basic_conv_with_padding", "test_clip_default_max_expanded",
    "test_convtranspose_output_shape", "test_cumsum_1d_reverse_exclusive", "test_edge_pad",
    "test_gather_negative_indices", "test_gemm_all_attributes", "test_layer_normalization_2d_axis1_expanded",
    "test_logsoftmax_axis_1", "test_maxpool_2d_dilations", "test_reduce_l2_keep_dims_random",
    "test_scatter_elements_with_duplicate_indices", "test_slice_neg_steps", "test_softmax_axis_0",
    "test_split_variable_parts_2d_opset18", "test_training_dropout", "test_argmax_default_axis_random",
)  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


@pytest.fixture(scope="module")
def suite() -> dict[str, Any]:
    return cases()


@pytest.mark.timeout(120)  # the suite computes what it expects when it is imported
def test_a_sample_of_nodes(client: gw.Client, suite: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, in ONNX's reference
        found = {name: played(client, suite[name])[0] for name in SAMPLE}
    refused = {"test_training_dropout", "test_argmax_default_axis_random"}
    assert found == {name: REFUSED if name in refused else PASSED for name in SAMPLE}


@pytest.mark.outside
@pytest.mark.timeout(600)  # 1,900 models
def test_all_nodes_pass_or_are_refused_by_name(client: gw.Client, suite: dict[str, Any]) -> None:
    found: Counter[str] = Counter()
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        for name, case in suite.items():
            try:
                result, words = played(client, case)
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
                continue
            found[result] += 1
            kinds = {node.op_type for node in case.model.graph.node} | {value.name for value in case.model.graph.input}
            assert result != REFUSED or any(kind in words for kind in kinds) or case.model.functions, (name, words)
    assert wrong == []
    assert found[PASSED] >= 1070
    assert found[PASSED] + found[REFUSED] + found[APART] == len(suite)


@pytest.mark.parametrize("name", ["test_gradient_of_add", "test_gradient_of_add_and_mul"])
def test_gradients_are_those_of_onnx(client: gw.Client, name: str) -> None:
    folder = Path(DATA_DIR) / "simple" / name
    model = onnx.load(folder / "model.onnx")
    [gradient] = [node for node in model.graph.node if node.op_type == "Gradient"]
    attributes = {own.name: onnx.helper.get_attribute_value(own) for own in gradient.attribute}
    loss, wrt = attributes["y"].decode(), [own.decode() for own in attributes["xs"]]
    arrays, results = (
        {
            value.name: onnx.numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / f"{kind}_{place}.pb"))
            for place, value in enumerate(values)
        }
        for kind, values in (("input", model.graph.input), ("output", model.graph.output))
    )
    outputs, _ = gw.from_onnx(model, outputs=loss)
    value, slopes = client.value_and_grad(outputs[loss], wrt=wrt)(arrays)
    assert value == results[loss]
    assert [slopes[own] for own in wrt] == [results[own] for own in gradient.output]
