"""The loss over all of a training set in files: actors of Ray, against processes and against JAX by hand.

The peers read the same units with the same reader; all have one thread for each process.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

import gradwire as gw
import gradwire.ray
from examples.much_data.__main__ import FEATURES, write
from gradwire_server.units.columns import Column, arrays_of
from gradwire_server.units.formats import Unit
from gradwire_server.units.much import MuchData
from gradwire_server.units.sums import Partial, sum_over, total
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import in_turns

GIGABYTES = 0.4
SMALL, LARGE = 1.0, 5.0
"""Gigabytes of examples of which the memory of an actor is compared."""

W = np.linspace(-0.5, 0.5, FEATURES)
OPTIONS: gw.Options = {"per_example": ("x", "y")}
Step = Callable[[], tuple[Any, Any]]


def loss(w: Any, x: Any, y: Any) -> gw.Expression:
    """The hinge loss of an example."""
    return gw.maximum(0, 1 - y * gw.dot(w, x))


def compare() -> Iterator[Row]:
    """The speed-up by a second actor, beside that by a second process; and a step beside one with JAX by hand."""
    with TemporaryDirectory() as parquet, TemporaryDirectory() as arrow, _cluster():
        write(Path(parquet), GIGABYTES, rows=50_000)
        _as_arrow(Path(parquet), Path(arrow))
        for form, folder in (("Parquet", parquet), ("Arrow IPC", arrow)):
            yield from _compare(form, Path(folder))


def _compare(form: str, folder: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        data = MuchData(loss, folder, None, 1 << 30, OPTIONS)
        steps: dict[str, Step] = {}
        for count in (1, 2):
            actors = gradwire.ray.value_and_grad(loss, folder, actors=count, actor_options={"num_cpus": 0}, **OPTIONS)
            steps[f"Ray, actors: {count}"] = partial(stack.enter_context(actors), W)
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(count))
            steps[f"processes: {count}"] = partial(_with_pool, pool, data)
        steps["Ray + JAX by hand, actors: 2"] = _with_jax(data.units, 2)
        first, *others = [step() for step in steps.values()]
        for other in others:
            np.testing.assert_allclose(other[0], first[0], rtol=1e-10)
            np.testing.assert_allclose(other[1], first[1], rtol=1e-8, atol=1e-12)
        one, two = steps["Ray, actors: 1"](), steps["Ray, actors: 2"]()
        assert one[0] == two[0]
        assert np.array_equal(one[1], two[1])
        timings = in_turns({name: partial(_timed, step) for name, step in steps.items()}, 40)
    work = f"hinge from {form}, {data.rows:,} x {FEATURES}, {len(data.units)} row groups"
    ours = timings.ratio("Ray, actors: 1", "Ray, actors: 2")
    theirs = timings.ratio("processes: 1", "processes: 2")
    yield Row(work, f"speed-up by 2 actors {ours:.2f}", f"by 2 processes {theirs:.2f}", ours / theirs, 0.95)
    yield from rows(work, timings, "Ray, actors: 2", {"processes: 2": None, "Ray + JAX by hand, actors: 2": 1.2})


def _as_arrow(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        parquet = pq.ParquetFile(file)
        with pa.ipc.new_file(target / f"{file.stem}.arrow", parquet.schema_arrow) as sink:
            for group in range(parquet.num_row_groups):
                sink.write(parquet.read_row_group(group).combine_chunks())


def compare_memory() -> Iterator[Row]:
    """The most memory that an actor ever had, for little and for much data."""
    peaks = {}
    with _cluster():
        for gigabytes in (SMALL, LARGE):
            with TemporaryDirectory() as folder:
                write(Path(folder), gigabytes)
                with gradwire.ray.value_and_grad(loss, folder, actors=1, **OPTIONS) as step:
                    step(W)
                    [actor] = step._actors  # noqa: SLF001
                    peaks[gigabytes] = ray.get(actor.__ray_call__.remote(_peak))
    small, large = (f"{megabytes:.0f} MB for {gigabytes} GB" for gigabytes, megabytes in peaks.items())
    yield Row("peak memory of an actor", large, small, peaks[SMALL] / peaks[LARGE], 0.91)


def _peak(_: object) -> float:
    """Megabytes that this process had in memory at the most."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3


@contextmanager
def _cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _timed(step: Step) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start


def _with_pool(pool: Any, data: MuchData) -> tuple[Any, Any]:
    asked = data.asked((W,), {})
    one = partial(_of_unit, asked.program, asked.arrays)
    whole: Partial = total(pool.map(one, data.units, chunksize=1))
    return whole.loss / whole.rows, whole.gradients["w"] / whole.rows


def _of_unit(program: Any, arrays: Mapping[str, Any], unit: Unit) -> Partial:
    return sum_over(program, arrays, [unit])


class _Jax:
    """An actor as one writes it."""

    def __init__(self, units: Sequence[Unit]) -> None:
        import jax  # noqa: PLC0415  (in the actor)
        import jax.numpy as jnp  # noqa: PLC0415

        jax.config.update("jax_enable_x64", True)
        self._units = units
        self._columns = {"x": Column(("x",), (FEATURES,), W.dtype), "y": Column(("y",), (), W.dtype)}

        def summed(w: Any, x: Any, y: Any) -> Any:
            return jnp.maximum(0, 1 - y * (x @ w)).sum()

        self._step = jax.jit(jax.value_and_grad(summed))

    def step(self, w: Any) -> tuple[float, Any]:
        """Sums over its units."""
        value, slope = 0.0, np.zeros(FEATURES)
        for unit in self._units:
            found, gradient = self._step(w, **arrays_of(unit, self._columns))
            value, slope = value + float(found), slope + np.asarray(gradient)
        return value, slope


def _with_jax(units: Sequence[Unit], count: int) -> Step:
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    make = ray.remote(_Jax).options(num_cpus=0, runtime_env={"env_vars": flags})
    actors = [make.remote(units[start::count]) for start in range(count)]
    examples = sum(unit.rows for unit in units)

    def step() -> tuple[Any, Any]:
        w = ray.put(W)
        values, slopes = zip(*ray.get([actor.step.remote(w) for actor in actors]), strict=True)
        return sum(values) / examples, sum(slopes) / examples

    return step
