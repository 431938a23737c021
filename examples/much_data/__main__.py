"""Make gigabytes of examples and fit a logistic regression to them: ``python -m examples.much_data --gigabytes 5``.

Parameters are kept after each iteration. Started again, also after the machine was, it goes on from the last ones.
"""
# pyright: reportUnknownMemberType=false
# (pyarrow has no types)

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import minimize
from tqdm import tqdm

import gradwire as gw
import gradwire.ray

FEATURES = 30
ROWS = 100_000  # of a row group, which takes 25 MB
GROUPS = 8  # of a file


def logistic(w: gw.Expression, x: gw.Expression, y: gw.Expression, penalty: gw.Expression) -> gw.Expression:
    """The loss of one example, a margin with noise, and a penalty."""
    return gw.softplus(-y * gw.dot(w, x)) + penalty * gw.dot(w, w)


def write(folder: Path, gigabytes: float, rows: int = ROWS) -> None:
    """Write files of so many gigabytes in all, a row group at a time; files that are there stay."""
    truth = np.linspace(-1, 1, FEATURES)
    files = max(1, round(gigabytes * 1e9 / (GROUPS * rows * (FEATURES + 1) * 8)))
    for number in tqdm(range(files), desc="files", disable=None):
        path, random = folder / f"{number:04}.parquet", np.random.default_rng(number)
        if path.exists():
            continue
        schema = pa.schema({"x": pa.list_(pa.float64(), FEATURES), "y": pa.float64()})
        with pq.ParquetWriter(path.with_suffix(".part"), schema, compression="none", use_dictionary=False) as file:
            for _ in range(GROUPS):
                x = random.normal(size=(rows, FEATURES))
                y = np.sign(x @ truth + random.logistic(size=rows))
                vectors = pa.FixedSizeListArray.from_arrays(x.ravel(), FEATURES)
                file.write_table(pa.table({"x": vectors, "y": y}, schema))
        path.with_suffix(".part").rename(path)


def train(folder: Path, iterations: int, actors: int | None = None) -> tuple[float, np.ndarray[Any, Any]]:
    """The loss and the parameters after L-BFGS, which begins where it was left."""
    kept = folder / "_w.npy"  # no data, by its name
    start = np.load(kept) if kept.exists() else np.zeros(FEATURES)
    with (
        gradwire.ray.value_and_grad(logistic, folder, per_example=("x", "y"), actors=actors) as step,
        tqdm(desc="iterations", total=iterations, disable=None) as progress,
    ):

        def keep(intermediate_result: Any) -> None:
            np.save(folder / "_next.npy", intermediate_result.x)
            (folder / "_next.npy").replace(kept)
            progress.update()
            progress.set_postfix_str(f"loss {intermediate_result.fun:.6f}")

        def value_and_slope(w: np.ndarray[Any, Any]) -> tuple[Any, Any]:
            return step(w, penalty=1e-4)

        options = {"maxiter": iterations}
        found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", callback=keep, options=options)
    return float(found.fun), np.asarray(found.x)


def main() -> None:
    """Write what is not there, and train."""
    parser = argparse.ArgumentParser(prog="python -m examples.much_data", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.1, help="of examples; default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("much-data"), help="of the files; default: %(default)s")
    parser.add_argument("--iterations", type=int, default=20, help="of L-BFGS, at most; default: %(default)s")
    parser.add_argument("--actors", type=int, help="default: as many as there are CPUs")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write(arguments.folder, arguments.gigabytes)
    loss, w = train(arguments.folder, arguments.iterations, arguments.actors)
    print(f"loss {loss:.6f}, first parameters {np.round(w[:3], 3)}")


if __name__ == "__main__":
    main()
