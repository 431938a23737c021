"""``gw.from_onnx``: models as PyTorch and scikit-learn export them, with values and gradients of those libraries."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skl2onnx
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gradwire as gw

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(30, 4)).astype(np.float32)
IMAGES = RANDOM.normal(size=(6, 2, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


class Perceptron(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)
        self.norm = torch.nn.LayerNorm(5)

    def forward(self, x: Any) -> Any:
        return torch.log_softmax(self.second(torch.nn.functional.gelu(self.norm(self.first(x)))), -1)


class Convolutions(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, padding=1, stride=2)
        self.last = torch.nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        pooled = torch.nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.last(torch.flatten(pooled, 1))


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.layer(x)[:, 0]


class Words(torch.nn.Module):
    """Rows by integers, of which there are as many as columns, so that a wrong axis goes unseen in shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = torch.nn.Embedding(7, 3), torch.nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        vectors = self.embedding(x.reshape(x.shape[0], 3, 1).squeeze(-1))
        return self.last(vectors.mean(1))


MODELS: dict[str, tuple[type[torch.nn.Module], Any]] = {
    "words": (Words, np.array([[1, 2, 6], [0, 0, 3]])),
    "perceptron": (Perceptron, X),
    "convolutions": (Convolutions, IMAGES),
    "attention": (Attention, IMAGES[:, 0]),
}


def exported(module: torch.nn.Module, x: Any, *, dynamo: bool) -> onnx.ModelProto:
    """The model that one of PyTorch's two exporters makes, with a batch of any size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of both exporters, about themselves
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
            assert program is not None
            return program.model_proto
        file = io.BytesIO()
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["out"], "dynamic_axes": {"x": {0: "batch"}}}
        torch.onnx.export(module, (x,), file, dynamo=False, **names)  # type: ignore[arg-type]  # its type is too narrow
    return onnx.load_from_string(file.getvalue())


@pytest.mark.timeout(180)  # exporters are imported, and trace
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_torch_have_its_values_and_gradients(client: gw.Client, name: str, *, dynamo: bool) -> None:
    kind, arrays = MODELS[name]
    torch.manual_seed(0)
    module, x = kind().eval(), torch.from_numpy(arrays)
    for own in module.parameters():  # exporters make one tensor of equal ones
        torch.nn.init.normal_(own, std=0.5)
    outputs, params = gw.from_onnx(exported(module, x, dynamo=dynamo))
    [node] = outputs.values()
    weights = np.cos(np.arange(node.size)).reshape(node.shape)
    value, slopes = client.value_and_grad(gw.sum(node * weights))(params, x=arrays)
    loss = (module(x).reshape(len(x), -1) * torch.from_numpy(weights.ravel())).sum(1).mean()
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-4)
    # Exporters give some matrices other names, and transpose them.
    found = [turned for own in slopes.values() for turned in (own, own.T)]
    for named, own in module.named_parameters():
        gradient = np.asarray(own.grad)
        assert any(one.shape == gradient.shape and np.allclose(one, gradient, 1e-3, 1e-4) for one in found), named


class Numbers(torch.nn.Module):
    """Numbers in the code, a buffer, and parameters that the exporter folds or keeps."""

    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = torch.nn.Linear(4, 3), torch.nn.RMSNorm(3)
        self.scale, self.folded = (
            torch.nn.Parameter(torch.tensor(0.7)),
            torch.nn.Parameter(torch.tensor([0.1, 0.2, 0.3])),
        )
        self.register_buffer("shift", torch.tensor([0.5, 0.25, -0.5]))

    def forward(self, x: Any) -> Any:
        hidden = torch.nn.functional.softplus(self.norm(self.layer(x)).clamp(-1.5, 1.5), threshold=4.0) + self.shift
        return self.scale * hidden.std(-1, keepdim=True) + torch.where(hidden > 0.6, hidden, self.folded.exp() * hidden)


@pytest.mark.timeout(180)  # as above
def test_what_no_optimizer_changes_in_torch_is_no_parameter(client: gw.Client) -> None:
    torch.manual_seed(0)
    module, x = Numbers().eval(), torch.from_numpy(X)
    outputs, params = gw.from_onnx(exported(module, x, dynamo=True))
    assert sorted(params) == ["exp", "layer.bias", "layer.weight", "norm.weight", "scale"]
    [node] = outputs.values()
    weights = np.array([1.0, 2.0, -1.0])
    value, slopes = client.value_and_grad(gw.sum(node * weights))(params, x=X)
    loss = (module(x) * torch.from_numpy(weights)).sum(1).mean()
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-4)
    for name, own in module.named_parameters():
        if name != "folded":
            np.testing.assert_allclose(slopes[name], np.asarray(own.grad), 1e-3, 1e-5)


def test_what_was_read_trains_on(client: gw.Client, tmp_path: Path) -> None:
    torch.manual_seed(0)
    onnx.save(exported(Perceptron().eval(), torch.from_numpy(X), dynamo=False), tmp_path / "model.onnx")
    outputs, params = gw.from_onnx(tmp_path / "model.onnx")
    loss = -gw.take(outputs["out"], gw.input("label", per_example=True, dtype="int64"))
    step = client.value_and_grad(loss)
    label = (X[:, 0] > 0) + (X[:, 1] > 0)
    first, _ = step(params, x=X, label=label.astype(int))
    for _ in range(60):
        last, slopes = step(params, x=X, label=label.astype(int))
        params = {name: array - 0.3 * slopes[name] for name, array in params.items()}
    assert last < first / 2


def learned(model: Any, y: Any) -> tuple[Any, onnx.ModelProto]:
    model.fit(X, y)
    options = {"zipmap": False} if hasattr(model, "predict_proba") else None
    return model, skl2onnx.to_onnx(model, X[:1], options=options)


CLASSES = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", [LogisticRegression, MLPClassifier], ids=["linear", "mlp"])
@pytest.mark.filterwarnings("ignore")  # an MLP that has not converged is as good here
def test_classifiers_of_scikit_learn(client: gw.Client, kind: Any, classes: int) -> None:
    y = np.minimum(CLASSES, classes - 1)
    options = {"hidden_layer_sizes": (5,), "max_iter": 20} if kind is MLPClassifier else {}
    model, found = learned(make_pipeline(StandardScaler(), kind(**options)), y)
    outputs, params = gw.from_onnx(found, outputs="probabilities")
    assert params
    losses = client.value_and_grad(gw.sum(outputs["probabilities"]), outputs=outputs)
    shown = losses.evaluate(params, X=X).outputs["probabilities"]
    np.testing.assert_allclose(shown, model.predict_proba(X), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [LinearRegression, MLPRegressor], ids=["linear", "mlp"])
@pytest.mark.filterwarnings("ignore")  # as above
def test_regressors_of_scikit_learn(client: gw.Client, kind: Any) -> None:
    options = {"hidden_layer_sizes": (5,), "max_iter": 20} if kind is MLPRegressor else {}
    model, found = learned(make_pipeline(StandardScaler(), kind(**options)), X @ np.ones(4))
    outputs, params = gw.from_onnx(found)
    shown = client.value_and_grad(gw.sum(outputs["variable"]), outputs=outputs).evaluate(params, X=X)
    np.testing.assert_allclose(shown.outputs["variable"][:, 0], model.predict(X), rtol=1e-4, atol=1e-5)


def test_labels_and_what_else_is_missing_are_named() -> None:
    _, found = learned(LogisticRegression(), CLASSES)
    with pytest.raises(gw.InvalidGraphError, match="output label"):
        gw.from_onnx(found)
    with pytest.raises(gw.InvalidRequestError, match='no tensor "scores"; its outputs are label, probabilities'):
        gw.from_onnx(found, outputs="scores")


def model_of(*nodes: Any, shape: Any = ("N", 3)) -> onnx.ModelProto:
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(list(nodes), "g", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])


def test_all_that_is_missing_is_listed_before_anything_else() -> None:
    make = onnx.helper.make_node
    model = model_of(make("Round", ["x"], ["a"]), make("Round", ["a"], ["b"]), make("Det", ["b"], ["y"]))
    with pytest.raises(gw.InvalidGraphError, match=r"the model needs what cannot be imported: Det x 1, Round x 2;"):
        gw.from_onnx(model)


def test_exponents_are_constants(client: gw.Client) -> None:
    model = model_of(onnx.helper.make_node("Pow", ["x", "two"], ["y"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), "two"))
    outputs, params = gw.from_onnx(model)
    assert not params
    assert client.value_and_grad(gw.sum(outputs["y"]))(x=np.array([[-1.0, 0.0, 3.0]]))[0] == 10


def test_row_indices_are_taken_by_and_nothing_else() -> None:
    make = onnx.helper.make_node
    model = model_of(make("Neg", ["x"], ["a"]), make("Cast", ["x"], ["b"], to=1), make("Add", ["a", "b"], ["y"]))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    expected = r"Cast \(of row indices to other types than int32 and int64\) x 1, Neg \(of row indices\) x 1;"
    with pytest.raises(gw.InvalidGraphError, match=expected):
        gw.from_onnx(model)
    with pytest.raises(gw.InvalidGraphError, match="output x"):
        gw.from_onnx(model, outputs="x")


def test_dimensions_without_sizes_beside_the_first_are_refused() -> None:
    model = model_of(onnx.helper.make_node("Relu", ["x"], ["y"]), shape=("N", "T"))
    with pytest.raises(gw.InvalidGraphError, match='input "x" has dimensions without sizes'):
        gw.from_onnx(model)
