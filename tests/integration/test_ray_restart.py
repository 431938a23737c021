"""The node of a program goes down while it takes a step over files: what it says, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gradwire.dask
from tests.clusters import head_node
from tests.integration.ray_program import RATE, STEPS, logistic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DONE = 3
"""Steps that the first run ends."""


def program(cluster: Any, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.ray_program", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_step(running: subprocess.Popen[str], *, stopped: bool = False) -> int:
    """Have the program begin a step; the process of its actor."""
    assert running.stdout is not None
    assert running.stdin is not None
    actor = int(running.stdout.readline())
    if stopped:
        os.kill(actor, signal.SIGSTOP)
    running.stdin.write("\n")
    running.stdin.flush()
    assert running.stdout.readline() == "begun\n"
    return actor


def test_a_program_whose_node_goes_down_says_so_and_goes_on_with_the_same_bits_when_started_again(
    ray_cluster: Any, tmp_path: Path
) -> None:
    files, kept = tmp_path / "a.parquet", tmp_path / "path.npy"
    random = np.random.default_rng(0)
    x = random.normal(size=(900, 4))
    y = np.sign(x @ [1, -2, 3, 0] + random.normal(size=900))
    pq.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(x.ravel(), 4), "y": y}), files, row_group_size=70)
    with ExitStack() as stack:
        with head_node() as cluster, program(cluster, files, kept) as first:
            for _ in range(DONE):
                begin_step(first)
            # While its actor is stopped the step cannot end, so that the node goes down in the middle.
            actor = begin_step(first, stopped=True)
            cluster.remove_node(cluster.head_node, allow_graceful=False)
            os.kill(actor, signal.SIGKILL)
            # It takes seconds to begin as the first one does to notice, and reads what is kept when it is told to.
            second = stack.enter_context(program(ray_cluster, files, kept))
            _, said = first.communicate()
        assert first.returncode == 1, said
        assert "gradwire._errors.UnavailableError: the cluster of Ray, or the node of this program, is gone or " in said
        assert "save the parameters of this step, of which nothing is lost, and go on from them" in said
        assert len(np.load(kept)) == 1 + DONE
        for _ in range(DONE, STEPS):
            begin_step(second)
        _, said = second.communicate()
    assert second.returncode == 0, said
    with dask.config.set(scheduler="synchronous"):
        step = gradwire.dask.value_and_grad(logistic, files, per_example=("x", "y"))
        path = [np.zeros(4)]
        for _ in range(STEPS):
            path.append(path[-1] - RATE * step(path[-1])[1])
    assert np.load(kept).tobytes() == np.array(path).tobytes()
