"""Other libraries around the SDK: columns of tables as arrays, and torch that compiles what calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import gradwire as gw

NUMBERS = ["double[pyarrow]", "float[pyarrow]", "int64[pyarrow]", "uint8[pyarrow]", "bool[pyarrow]"]
NUMBERS += ["Float64", "Float32", "Int64", "boolean", "float32", "int16", "bool"]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_tables_and_columns_of_pandas_are_arrays(client: gw.Client, dtype: str) -> None:
    x, pair = gw.input("x", per_example=True), gw.input("x", shape=(2,), per_example=True)
    w = gw.parameter("w")
    table = pd.DataFrame({"a": [1, 0, 1], "b": [1, 1, 0]}, dtype=dtype)
    of_column = client.value_and_grad(w * x, reduction="sum", dtype="float64")
    of_table = client.value_and_grad(w * gw.dot(pair, [1, 10]), reduction="none", dtype="float64")
    assert of_column(w=3.0, x=table["a"])[0] == 6
    np.testing.assert_array_equal(of_table(w=1.0, x=table)[0], [11, 10, 1])
    np.testing.assert_array_equal(of_table(w=1.0, x=table.iloc[1:])[0], [10, 1])


def test_columns_of_several_dtypes(client: gw.Client) -> None:
    pair = gw.input("x", shape=(3,), per_example=True)
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, 0.25], "c": [1, 0]})
    table = table.astype({"a": "int64[pyarrow]", "b": "double[pyarrow]"})
    value, _ = client.value_and_grad(gw.sum(pair), reduction="none")(x=table)
    np.testing.assert_array_equal(value, [2.5, 2.25])


def test_rows_by_integers_of_arrow(client: gw.Client) -> None:
    rows, table = gw.input("rows", per_example=True, dtype="int64"), gw.parameter("table", shape=(3,))
    taken = client.value_and_grad(gw.take(table, rows), reduction="none")
    value, _ = taken(table=[1.0, 2.0, 4.0], rows=pd.Series([2, 0], dtype="int64[pyarrow]"))
    np.testing.assert_array_equal(value, [4, 1])


@pytest.mark.parametrize("dtype", ["double[pyarrow]", "int64[pyarrow]", "Int64", "boolean"])
def test_what_is_missing_is_not_a_number(client: gw.Client, dtype: str) -> None:
    x, pair = gw.input("x", per_example=True), gw.input("x", shape=(2,), per_example=True)
    table = pd.DataFrame({"a": [1, None], "b": [1, 0]}, dtype=dtype)
    assert np.isnan(client.value_and_grad(x)(x=table["a"])[0])
    value, _ = client.value_and_grad(gw.sum(pair), reduction="none")(x=table)
    np.testing.assert_array_equal(value, [2, np.nan])


@pytest.mark.parametrize("dtype", ["string[pyarrow]", "str", "timestamp[s][pyarrow]"])
def test_what_is_no_number_is_refused(client: gw.Client, dtype: str) -> None:
    table = pd.DataFrame({"a": ["2020-01-01", "2020-01-02"]}, dtype=dtype)
    for values in (table, table["a"]):
        with pytest.raises(gw.InvalidRequestError, match=r'"x" has dtype .* expected real numbers'):
            client.value_and_grad(gw.input("x", per_example=True))(x=values)


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame({"a": [1, None], "b": [0.5, 1.5]}),
        pa.table({"a": [1, None], "b": [0.5, 1.5]}),
        pa.record_batch({"a": [1, None], "b": [0.5, 1.5]}),
    ],
    ids=["polars", "table", "batch"],
)
def test_tables_of_polars_and_arrow_are_arrays(client: gw.Client, table: Any) -> None:
    pair = gw.input("x", shape=(2,), per_example=True)
    value, _ = client.value_and_grad(gw.dot(pair, [1, 10]), reduction="none", dtype="float64")(x=table)
    np.testing.assert_array_equal(value, [6, np.nan])


EMBEDDINGS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(EMBEDDINGS),
        pl.Series(EMBEDDINGS, dtype=pl.Array(pl.Float32, 2)),
        pa.array(EMBEDDINGS),
        pa.chunked_array([pa.array(EMBEDDINGS, pa.list_(pa.float64(), 2))]),
        pd.Series(EMBEDDINGS),
    ],
    ids=["polars", "polars-array", "arrow", "arrow-fixed", "pandas"],
)
def test_columns_of_vectors_are_matrices(client: gw.Client, column: Any) -> None:
    pair = gw.input("x", shape=(2,), per_example=True)
    value, _ = client.value_and_grad(gw.dot(pair, [1, 10]), reduction="none", dtype="float64")(x=column)
    np.testing.assert_array_equal(value, [21, 43])


def test_columns_of_lists_of_several_lengths_are_refused(client: gw.Client) -> None:
    with pytest.raises(gw.InvalidRequestError, match='"x" is no array'):
        client.value_and_grad(gw.input("x", per_example=True))(x=pl.Series([[1.0], [1.0, 2.0]]))


@pytest.mark.parametrize("column", [pl.Series([1.0, 2.0]), pa.array([1, 2]), pa.chunked_array([[1.0], [2.0]])])
def test_columns_of_polars_and_arrow_are_arrays(client: gw.Client, column: Any) -> None:
    value, _ = client.value_and_grad(gw.input("x", per_example=True), reduction="sum")(x=column)
    assert value == 3


Work = Callable[[gw.Client, torch.Tensor, torch.Tensor], torch.Tensor]


def loss() -> gw.Expression:
    w, x = gw.parameter("w", shape=(3,)), gw.input("x", shape=(3,), per_example=True)
    return gw.softplus(-gw.dot(w, x)) + np.exp(w[0] / 2) * gw.max(w)


def arrays(w: torch.Tensor, x: torch.Tensor) -> dict[str, Any]:
    return {"w": w.detach().numpy(), "x": (2 * x).numpy()}


def call(client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    _, gradients = client.value_and_grad(loss())(arrays(w, x))
    return torch.from_numpy(gradients["w"]) * 2 + w


def whole_result(client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    result = client.value_and_grad(loss()).evaluate(arrays(w, x))
    return w * float(result.loss) + result.examples


def function(client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    traced = client.value_and_grad(lambda w, x: gw.dot(w, x) ** 2, per_example="x")
    return torch.from_numpy(traced(**arrays(w, x))[1]["w"]) + w


def stream(client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    with client.stream(loss()) as stream:
        future = stream.submit(arrays(w, x))
        return torch.from_numpy(stream(arrays(w, x))[1]["w"] + future.result().gradients["w"]) + w


def others(client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    known = len(client.info().ops) + len(client.register(loss()))
    one = arrays(w, x)
    passed = client.check(loss(), one).passed
    return w * known * passed + float(client.trace(loss(), one | {"x": one["x"][0]}).loss)


class Loss(torch.autograd.Function):
    """The loss as a function of torch, whose gradient the server computes."""

    @staticmethod
    def forward(ctx: Any, client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        value, gradients = client.value_and_grad(loss())(arrays(w, x))
        ctx.save_for_backward(torch.from_numpy(gradients["w"]))
        return torch.tensor(float(value), dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        return None, slopes[0] * ctx.saved_tensors[0], None


def differentiated(client: gw.Client, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return Loss.apply(client, w, x) * 2  # type: ignore[no-any-return, no-untyped-call]  # as torch has it


@pytest.mark.filterwarnings("ignore")  # torch's compiler meets warnings of torch itself
@pytest.mark.parametrize("work", [call, whole_result, function, stream, others, differentiated])
def test_torch_compiles_what_calls_the_sdk(client: gw.Client, work: Work) -> None:
    torch.compiler.reset()
    w = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], dtype=torch.float64)
    compiled = torch.compile(work, backend="eager")
    for scale in (1, 2):
        found, expected = compiled(client, w, scale * x), work(client, w, scale * x)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        slope = [torch.autograd.grad(each.sum(), w)[0] for each in (found, expected)]
        torch.testing.assert_close(*slope, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")  # as above
def test_errors_come_through_what_torch_compiled(client: gw.Client) -> None:
    def wrong(w: torch.Tensor) -> torch.Tensor:
        return w * float(client.value_and_grad(loss())(w=w.numpy(), x=w.numpy())[0])

    with pytest.raises(gw.InvalidRequestError, match='"w"'):
        torch.compile(wrong, backend="eager")(torch.ones(2))
