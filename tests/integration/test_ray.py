"""Actors of Ray read files and compute: the same bits whoever computes, and whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gradwire as gw

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(300)]

N = 3000


def logistic(w: Any, x: Any, y: Any) -> Any:
    return gw.softplus(-y * gw.dot(w, x))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventeen row groups of two sizes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(N, 4))
    y = np.sign(x @ [1, -2, 3, 0] + random.normal(size=N))
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(x.ravel(), 4), "y": y})
    folder = tmp_path_factory.mktemp("files")
    pq.write_table(table.slice(0, 2000), folder / "a.parquet", row_group_size=250)
    pq.write_table(table.slice(2000), folder / "b.parquet", row_group_size=111)
    return folder


@pytest.fixture(scope="module")
def expected(files: Path) -> tuple[Any, Any]:
    """What Dask gives in this process, a unit at a time."""
    import gradwire.dask  # noqa: PLC0415

    with dask.config.set(scheduler="synchronous"):
        found: tuple[Any, Any] = gradwire.dask.value_and_grad(logistic, files, per_example=("x", "y"))(W)
    return found


W = np.array([0.5, -0.25, 1.0, 2.0])


def step_over(files: Any, **options: Any) -> Any:
    import gradwire.ray  # noqa: PLC0415  (Ray takes a second to import)

    return gradwire.ray.value_and_grad(logistic, files, per_example=("x", "y"), **options)


def same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> bool:
    """Bit for bit."""
    return bool(found[0] == expected[0] and np.array_equal(found[1], expected[1]))


def test_an_actor_that_dies_in_mid_step_changes_no_bit(
    files: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray  # noqa: PLC0415

    begun, wait = Event(), ray.wait

    def noticed(*arguments: Any, **named: Any) -> Any:
        begun.set()
        return wait(*arguments, **named)

    with step_over(files, actors=2) as step, ThreadPoolExecutor(1) as other:
        result = step.evaluate(W)
        assert same((result.loss, result.gradients), expected)
        assert (result.examples, result.non_finite) == (N, None)
        victim = ray.get(next(iter(step._actors)).__ray_call__.remote(lambda _: os.getpid()))  # noqa: SLF001
        # While it is stopped the step cannot end, so that its death is in the middle.
        os.kill(victim, signal.SIGSTOP)
        monkeypatch.setattr(ray, "wait", noticed)
        running = other.submit(step, W)
        begun.wait()
        os.kill(victim, signal.SIGKILL)
        assert same(running.result(), expected)
        assert ray.get(next(iter(step._actors)).__ray_call__.remote(lambda _: os.getpid())) != victim  # noqa: SLF001


def test_an_actor_that_dies_again_and_again_is_given_up(files: Path, tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("import os; os._exit(1)")
    mortal = {"runtime_env": {"env_vars": {"PYTHONPATH": str(tmp_path)}}, "max_task_retries": 1}
    with (
        step_over(files / "a.parquet", actors=1, actor_options=mortal) as step,
        pytest.raises(
            gw.UnavailableError, match=r"computes units from row group 0 of .*a.parquet has died again and again"
        ),
    ):
        step(W)


DYING = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "gradwire_server.units.actor" and not os.path.exists(os.environ["CURED"]):
            os._exit(1)

sys.meta_path.insert(0, Finder())
"""
"""Has a process end that imports what an actor is."""


def test_an_actor_that_dies_whenever_it_is_made_is_given_up_and_the_next_step_makes_another(
    files: Path, expected: Any, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DYING)
    cured = tmp_path / "cured"
    mortal = {
        "runtime_env": {"env_vars": {"PYTHONPATH": str(tmp_path), "CURED": str(cured)}},
        "max_restarts": 1,
    }
    with step_over(files, actors=1, actor_options=mortal) as step:
        with pytest.raises(
            gw.UnavailableError,
            match=r"was to compute units from row group 0 of .*a.parquet to .* has died 2 times before it computed",
        ):
            step(W)
        cured.touch()
        assert same(step(W), expected)


def test_an_actor_that_ray_makes_no_more_has_another_in_its_place_if_it_had_computed_anything(
    files: Path, expected: Any
) -> None:
    import ray  # noqa: PLC0415

    with step_over(files, actors=1, actor_options={"max_restarts": 0}) as step:
        assert same(step(W), expected)
        [actor] = step._actors  # noqa: SLF001
        ray.kill(actor)
        assert same(step(W), expected)
        assert [*step._actors] != [actor]  # noqa: SLF001


def test_what_is_wrong_is_told_as_in_this_process(files: Path, tmp_path: Path) -> None:
    y = [None, *[1.0] * 9]
    pq.write_table(pa.table({"x": pa.array(np.ones((10, 4)).tolist()), "y": y}), tmp_path / "a.parquet")
    with step_over(tmp_path, actors=1) as step, pytest.raises(gw.InvalidRequestError) as raised:
        step(W)
    assert type(raised.value) is gw.InvalidRequestError
    assert str(raised.value).startswith('column "y" of row group 0 of ')
    with step_over(files) as step, pytest.raises(gw.DeadlineExceededError, match="the call took longer"):
        step(W, timeout=1e-6)
    with pytest.raises(gw.InvalidRequestError, match="actors=0: expected an integer from 1"):
        step_over(files, actors=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # ray.data warns of itself
def test_a_dataset_is_its_files_which_one_actor_computes_alike(files: Path, expected: Any) -> None:
    import ray.data  # noqa: PLC0415  (it takes two seconds)

    dataset = ray.data.read_parquet([str(files / "a.parquet"), str(files / "b.parquet")])
    with step_over(dataset, actors=1) as step:
        assert same(step(W), expected)
    for changed in (dataset.limit(10), dataset.filter(lambda row: row["y"] > 0), ray.data.range(3)):
        with pytest.raises(gw.InvalidRequestError, match="a dataset that reads files and does nothing else"):
            step_over(changed)


def test_workers_of_dask_give_the_same_bits(files: Path, expected: Any) -> None:
    from distributed import Client, LocalCluster  # noqa: PLC0415

    import gradwire.dask  # noqa: PLC0415

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, host="127.0.0.1") as workers,
        Client(workers),
    ):
        step = gradwire.dask.value_and_grad(logistic, files, per_example=("x", "y"))
        assert same(step(W), expected)


def test_the_example_finds_what_its_data_were_made_with_and_goes_on_where_it_was_left(tmp_path: Path) -> None:
    from examples.much_data import __main__ as example  # noqa: PLC0415

    example.write(tmp_path, 0.005, rows=2500)
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    first, kept = example.train(tmp_path, 2, actors=1)
    np.testing.assert_array_equal(np.load(tmp_path / "_w.npy"), kept)
    next_one, _ = example.train(tmp_path, 1, actors=1)
    assert next_one < first  # one iteration from zeros would not come so far
    last, w = example.train(tmp_path, 20, actors=1)
    assert last < next_one
    np.testing.assert_allclose(w, np.linspace(-1, 1, 30), atol=0.15)
