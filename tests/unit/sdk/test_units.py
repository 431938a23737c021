"""Losses over files, by Dask in this process: what they are, and what is said of files, columns and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gradwire as gw
import gradwire.dask
from gradwire_server.units.tree import blocks, summed

N, FEATURES = 1000, 5
RANDOM = np.random.default_rng(3)
PHI, Y = RANDOM.normal(size=(N, FEATURES)), np.sign(RANDOM.normal(size=N))
W = RANDOM.normal(size=FEATURES)


def hinge() -> gw.Expression:
    w, phi = gw.parameter("w", shape=(FEATURES,)), gw.input("phi", shape=(FEATURES,), per_example=True)
    margin = 1 - gw.dot(w, phi) * gw.input("y", per_example=True)
    return gw.maximum(0, margin) + 0.1 * gw.dot(w, w)


def lists(array: Any) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(array.ravel(), array.shape[1])


TABLE = pa.table({"phi": lists(PHI), "y": Y})


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def write_arrow(table: Any, path: Path, rows: int, **options: Any) -> None:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        file.write_table(table, max_chunksize=rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Row groups of several sizes in several files, one of which has no rows."""
    pq.write_table(TABLE.slice(0, 600), tmp_path / "a.parquet", row_group_size=70)
    pq.write_table(TABLE.slice(600, 0), tmp_path / "b.parquet")
    pq.write_table(TABLE.slice(600), tmp_path / "c.parquet", row_group_size=90)
    (tmp_path / "_SUCCESS").write_text("")
    return tmp_path


def local(loss: Any = None, **options: Any) -> gw.ValueAndGrad:
    return gw.connect("local").value_and_grad(loss or hinge(), **options)


def same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Bit for bit."""
    assert (found[0], found[0].dtype) == (expected[0], expected[0].dtype)
    assert found[1].keys() == expected[1].keys()
    for name, array in expected[1].items():
        np.testing.assert_array_equal(found[1][name], array)
        assert found[1][name].dtype == array.dtype


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_units_weigh_as_much_as_they_have_rows(folder: Path, reduction: str) -> None:
    """The term that depends on no example counts as in one call: once for a mean, and with every example for a sum."""
    value, grads = gradwire.dask.value_and_grad(hinge(), folder / "*.parquet", reduction=reduction)(w=W)
    expected, slopes = local(reduction=reduction)(w=W, phi=PHI, y=Y)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(grads["w"], slopes["w"], rtol=1e-13)


def test_the_sum_over_one_unit_has_the_bits_of_one_call(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "all.parquet")
    step = gradwire.dask.value_and_grad(hinge(), tmp_path / "all.parquet", reduction="sum")
    same(step(w=W), local(reduction="sum")(w=W, phi=PHI, y=Y))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_float32_is_summed_in_float64(folder: Path, reduction: str) -> None:
    options: dict[str, Any] = {"reduction": reduction, "dtype": "float32"}
    value, grads = gradwire.dask.value_and_grad(hinge(), folder / "*.parquet", **options)(w=W)
    expected, slopes = local(**options)(w=W, phi=PHI, y=Y)
    assert (value.dtype, grads["w"].dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(value, expected, rtol=2e-7)
    np.testing.assert_allclose(grads["w"], slopes["w"], rtol=5e-7)


@pytest.mark.parametrize("count", range(1, 40))
def test_blocks_are_parts_of_one_tree(count: int) -> None:
    parts = [f"{number} " for number in range(count)]

    def add(left: str, right: str) -> str:
        return f"({left}{right})"

    def leaves(total: str) -> int:
        return total.count(" ")

    whole = summed(parts, add)
    for takers in range(1, count + 2):
        cut = blocks(parts, takers)
        sizes = [len(block) for block in cut]
        assert [part for block in cut for part in block] == parts
        assert 2 * takers * sizes[0] <= count or sizes[0] == 1
        assert all(size == 1 or size * takers <= sum(sizes[place:]) for place, size in enumerate(sizes))
        assert summed((summed(block, add) for block in cut), add, leaves) == whole
    assert whole.count("(") == count - 1


def test_the_tree_of_five() -> None:
    assert summed("abcde", lambda left, right: f"({left}{right})") == "(((ab)(cd))e)"


def test_how_units_are_shared_out_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=17)
    step = gradwire.dask.value_and_grad(hinge(), tmp_path / "a.parquet")
    expected = step(w=W)
    for takers in (1, 3, 60):
        monkeypatch.setattr("gradwire_server.units.dask.TAKERS", takers)
        same(step(w=W), expected)


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}])
def test_record_batches_are_row_groups(tmp_path: Path, options: dict[str, Any]) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=70)
    write_arrow(TABLE, tmp_path / "a.arrow", 70, **options)
    parquet, arrow = (gradwire.dask.value_and_grad(hinge(), tmp_path / f"a.{kind}") for kind in ("parquet", "arrow"))
    same(arrow(w=W), parquet(w=W))


def tensors() -> Any:
    kind = pa.fixed_shape_tensor(pa.float64(), [FEATURES])
    return pa.ExtensionArray.from_storage(kind, lists(PHI))


@pytest.mark.parametrize(
    ("phi", "columns"),
    [
        ({"phi": pa.array(PHI.tolist())}, None),
        ({"phi": pa.array(PHI.tolist(), pa.large_list(pa.float64()))}, None),
        ({"phi": tensors()}, None),
        ({"features": lists(PHI)}, {"phi": "features"}),
        (
            {f"x{place}": PHI[:, place] for place in range(FEATURES)},
            {"phi": [f"x{place}" for place in range(FEATURES)]},
        ),
    ],
    ids=["lists", "large lists", "tensors", "another name", "flat columns"],
)
def test_what_a_vector_may_be(tmp_path: Path, phi: dict[str, Any], columns: Any) -> None:
    pq.write_table(TABLE, tmp_path / "expected.parquet", row_group_size=300)
    pq.write_table(pa.table({**phi, "y": Y.astype(np.int8)}), tmp_path / "found.parquet", row_group_size=300)
    step = gradwire.dask.value_and_grad(hinge(), tmp_path / "found.parquet", columns=columns)
    same(step(w=W), gradwire.dask.value_and_grad(hinge(), tmp_path / "expected.parquet")(w=W))


def test_matrices_row_indices_and_flags(tmp_path: Path) -> None:
    images, labels, seen = RANDOM.normal(size=(50, 2, 3)), RANDOM.integers(4, size=50), RANDOM.random(50) < 0.5
    nested = pa.FixedSizeListArray.from_arrays(lists(images.reshape(-1, 3)), 2)
    pq.write_table(pa.table({"image": nested, "label": labels, "seen": seen}), tmp_path / "a.parquet", row_group_size=9)

    def loss(params: Any, image: Any, label: Any, seen: Any, scale: Any) -> Any:
        scores = params["layers"][0] @ gw.reshape(image, (6,)) * scale
        return seen * gw.softmax_cross_entropy_with_integer_labels(scores, label)

    params, each = {"layers": [RANDOM.normal(size=(4, 6))]}, ("image", "label", "seen")
    value, grads = gradwire.dask.value_and_grad(loss, tmp_path, per_example=each)(params, scale=0.5)
    expected, slopes = local(loss, per_example=each)(params, image=images, label=labels, seen=seen, scale=0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(grads["layers"][0], slopes["layers"][0], rtol=1e-12)


@pytest.mark.parametrize("rows", [9, 50])
def test_integers_pick_rows_and_are_numbers(tmp_path: Path, rows: int) -> None:
    tokens, table = RANDOM.integers(5, size=(50, 4)), RANDOM.normal(size=(5, 3))
    pq.write_table(pa.table({"tok": lists(tokens.astype(np.int32))}), tmp_path / "a.parquet", row_group_size=rows)
    losses: list[Callable[[Any, Any], Any]] = [
        lambda emb, tok: np.sum(emb[tok] * (tok + 1)[:, None]),
        lambda emb, tok: np.sum(emb) * np.sum(tok * tok),
    ]
    for loss in losses:
        value, slopes = gradwire.dask.value_and_grad(loss, tmp_path, per_example="tok")(table)
        expected = local(loss, per_example="tok")(table, tok=tokens)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(slopes, expected[1], rtol=1e-13)
        declared = loss(gw.parameter("emb", (5, 3)), gw.input("tok", 4, per_example=True, dtype="int64"))
        again = gradwire.dask.value_and_grad(declared, tmp_path)(emb=table)
        assert (again[0], again[1]["emb"].tobytes()) == (value, slopes.tobytes())


def test_folders_uris_and_several_of_them_are_files(folder: Path) -> None:
    expected = gradwire.dask.value_and_grad(hinge(), folder / "*.parquet")(w=W)
    paths = [str(path) for path in sorted(folder.glob("*.parquet"))]
    for files in (
        folder,
        f"file://{folder}",
        paths,
        [f"file://{path}" for path in paths],
        [folder / "a*", folder / "c*"],
    ):
        same(gradwire.dask.value_and_grad(hinge(), files)(w=W), expected)


def test_no_rows(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 0), tmp_path / "a.parquet")
    same(
        gradwire.dask.value_and_grad(hinge(), tmp_path, reduction="sum")(w=W),
        (np.float64(0), {"w": np.zeros(FEATURES)}),
    )
    with pytest.raises(gw.InvalidRequestError, match="the files have no rows, of which there is no mean"):
        gradwire.dask.value_and_grad(hinge(), tmp_path)(w=W)


def test_what_is_not_finite_has_its_number_among_all_rows(folder: Path) -> None:
    pq.write_table(TABLE.set_column(1, "y", [np.where(np.arange(N) == 77, np.nan, Y)]), folder / "d.parquet")
    step = gradwire.dask.value_and_grad(hinge(), folder / "*.parquet", reject_non_finite=True)
    with pytest.raises(gw.NonFiniteError, match="value nan at node y of example 1077"):
        step(w=W)
    assert np.isnan(gradwire.dask.value_and_grad(hinge(), folder / "*.parquet")(w=W)[0])


def test_sums_over_units_may_overflow(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [4e307, 4e307]}), tmp_path / "a.parquet", row_group_size=1)
    loss = gw.parameter("w") * gw.input("y", per_example=True)
    step = gradwire.dask.value_and_grad(loss, tmp_path, reduction="sum", reject_non_finite=True)
    assert step(w=2.0)[0] == 1.6e308
    with pytest.raises(gw.NonFiniteError, match="reduction inf at node"):
        step(w=4.0)


def change(name: str, values: Any) -> Callable[[Path], object]:
    table = TABLE.set_column(TABLE.schema.names.index(name), name, [values])
    return lambda folder: pq.write_table(table, folder / "c.parquet", row_group_size=400)


def nulls(array: list[Any], place: int) -> list[Any]:
    return [None if number == place else value for number, value in enumerate(array)]


PAIRS = [row[: 4 if number == 777 else 5] for number, row in enumerate(PHI.tolist())]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (change("y", pa.array(nulls(Y.tolist(), 444))), r'"y" of row group 1 of .*c.parquet has 1 nulls; fill them'),
        (change("phi", pa.array(nulls(PHI.tolist(), 5), TABLE.schema.field("phi").type)), r'"phi" of .* has 1 nulls'),
        (
            change("phi", pa.array([nulls(row, 2) for row in PHI.tolist()], TABLE.schema.field("phi").type)),
            r'"phi" of row group [012] of .* has [24]00 nulls',
        ),
        (change("y", pa.array(["a"] * N)), r'"y" is string in .*c.parquet and double in .*a.parquet; write it in one'),
        (
            lambda folder: pq.write_table(TABLE.drop_columns("y"), folder / "c.parquet"),
            r'column "y" is missing from .*c.parquet, which has phi; say which one it is',
        ),
        (lambda folder: (folder / "c.parquet").write_text("a,b"), "c.parquet is neither a Parquet file nor an Arrow"),
        (lambda folder: (folder / "c.parquet").write_bytes(b"PAR1" * 9), "cannot read .*c.parquet: "),
    ],
    ids=["null", "null list", "null in a list", "another type", "missing", "another format", "broken"],
)
def test_what_is_said_of_a_file(folder: Path, prepare: Callable[[Path], object], said: str) -> None:
    prepare(folder)
    with pytest.raises(gw.InvalidRequestError, match=said):
        gradwire.dask.value_and_grad(hinge(), folder / "*.parquet")(w=W)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"phi": PAIRS}, r'"phi" of row group 0 of .* has lists of lengths 5 and 4; expected one length'),
        ({"y": ["a"] * N}, r'"y" is string in .*; expected numbers, or lists of numbers of one length'),
        ({"y": pa.array([1] * N, pa.date32())}, r'"y" is date32\[day\] in .*; expected numbers'),
        ({"y": Y.astype("float32")}, 'array "y" has dtype float32 and array "w" float64; nothing is promoted'),
        ({"phi": lists(PHI[:, :4].copy())}, r'"phi".*\(?\[?4'),
    ],
    ids=["ragged", "text", "dates", "float32", "another length"],
)
def test_what_is_said_of_a_column(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    table = {"phi": lists(PHI), "y": Y, **columns}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(gw.InvalidRequestError, match=said):
        gradwire.dask.value_and_grad(hinge(), tmp_path)(w=W)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("x/*.parquet", r"no files match .*/x/\*\.parquet"),
        ("absent", "there is no file .*/absent"),
        (".", "no files are in "),
        ([], "no files are given"),
        (3, "files are a path, a glob, a folder, or several; found int"),
        ([3], "a path is a string; found 3"),
        ("nowhere://x", "cannot look for nowhere://x: "),
    ],
)
def test_what_is_said_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Any, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(gw.InvalidRequestError, match=said):
        gradwire.dask.value_and_grad(hinge(), files)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": "none"}, 'reduction="none" gives a loss for each example; choose "mean" or "sum"'),
        ({"outputs": ["w"]}, "outputs= is not for files"),
        ({"reduction": "median"}, "reduction='median' is unknown"),
        ({"columns": {"z": "y"}}, 'columns= names "z"; the inputs that are read from the files are phi, y'),
        ({"columns": {"phi": ["y", "phi"]}}, 'column "phi" has lists of shape .5,.; the several columns'),
    ],
)
def test_what_is_said_of_options(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.InvalidRequestError, match=said):
        gradwire.dask.value_and_grad(hinge(), folder, **options)


@pytest.mark.parametrize(
    ("loss", "arrays", "options", "said"),
    [
        (hinge(), {"w": W, "y": Y}, {}, '"y" is read from the files; leave it out'),
        (hinge(), {}, {}, '"w"'),
        (hinge(), {"w": W[:3]}, {}, '"w"'),
        (hinge(), {"w": W}, {"wrt": ["phi"]}, 'wrt names "phi", which is read from the files'),
    ],
)
def test_what_is_said_of_a_call(folder: Path, loss: Any, arrays: Any, options: Any, said: str) -> None:
    with pytest.raises(gw.InvalidRequestError, match=said):
        gradwire.dask.value_and_grad(loss, folder, **options)(**arrays)


def test_a_loss_without_columns(folder: Path) -> None:
    for loss in (gw.parameter("w") ** 2, lambda w, y: w * y):
        with pytest.raises(gw.InvalidRequestError, match="no input that is read from the files; declare it"):
            gradwire.dask.value_and_grad(loss, folder)


def test_a_unit_that_is_too_large(folder: Path) -> None:
    with pytest.raises(gw.LimitExceededError, match=r"row group 0 of .*c.parquet has 90 rows, whose arrays take 4320 "):
        gradwire.dask.value_and_grad(hinge(), folder, max_unit_bytes=4000)
    assert gradwire.dask.value_and_grad(hinge(), folder, max_unit_bytes=4320)(w=W)


def test_a_file_that_changes(folder: Path) -> None:
    step = gradwire.dask.value_and_grad(hinge(), folder)
    before = step(w=W)
    pq.write_table(TABLE.slice(0, 5), folder / "new")
    (folder / "new").replace(folder / "a.parquet")
    same(step(w=W), before)  # it has the file open that it began with
    value, _ = gradwire.dask.value_and_grad(hinge(), folder)(w=W)
    assert value != before[0]


def test_row_groups_do_not_stay_in_memory(tmp_path: Path) -> None:
    """Files stay open, for their footers, but not what was read of them."""
    for number in range(4):
        table = pa.table({"phi": lists(RANDOM.normal(size=(30_000, FEATURES))), "y": np.ones(30_000)})
        pq.write_table(table, tmp_path / f"{number}.parquet", compression="none", use_dictionary=False)
    del table
    before = pa.total_allocated_bytes()
    gradwire.dask.value_and_grad(hinge(), tmp_path)(w=W)
    assert pa.total_allocated_bytes() - before < 1_000_000
