"""The demo, as its user runs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from demo import problem
from demo.server import quantile
from tests.integration import command
from tests.integration.server_process import ServerProcess

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(*arguments, module="demo", folder=ROOT)


@pytest.mark.timeout(300)
def test_three_workers_reach_the_optimum_of_scikit_learn(tmp_path: Path) -> None:
    done = run("--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    losses = re.search(r"TrainLoss +│ +([\d.]+) │ +([\d.]+)", done.stdout)
    assert losses is not None
    ours, theirs = losses.groups()
    assert abs(float(ours) / float(theirs) - 1) <= 1e-3
    assert re.search(r"requests served +│ +15,003 ", done.stdout)
    assert re.search(r"latency p99 +│ +\d+\.\d\d ms", done.stdout)
    pictures = re.search(r"pictures: (\S+\.svg) (\S+\.png)", done.stdout)
    assert pictures is not None
    assert [Path(path).stat().st_size > 10_000 for path in pictures.groups()] == [True, True]


def test_it_uses_a_server_that_runs_already_and_says_when_it_does_not_converge(tmp_path: Path) -> None:
    with ServerProcess() as server:
        flags = ("--server", server.address, "--metrics", server.metrics_url, "--output", str(tmp_path))
        done = run(*flags, "--steps", "30", "--workers", "2")
        assert 'grpc_server_started_total{grpc_method="TraceGraph"' in server.metrics()
    assert done.returncode == 1
    assert "more --steps" in done.stdout
    assert re.search(r"requests served +│ +62 ", done.stdout)


def test_a_server_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    done = run("--server", "127.0.0.1:1", "--metrics", "http://127.0.0.1:1/metrics", "--output", str(tmp_path))
    assert done.returncode == 1
    assert "no server answers at 127.0.0.1:1" in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stdout + done.stderr


def test_the_solver_of_scikit_learn_minimises_the_same_objective() -> None:
    train, _ = problem.load()
    w = problem.optimum(train)
    best = problem.objective(w, train)
    for direction in np.random.default_rng(0).normal(size=(20, len(w))):
        assert problem.objective(w + 1e-3 * direction, train) > best


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = {0.1: 10.0, 0.2: 20.0, 0.4: 40.0, np.inf: 40.0}
    assert quantile(buckets, 0.5) == 0.2
    assert quantile(buckets, 0.25) == 0.1
    np.testing.assert_allclose(quantile(buckets, 0.75), 0.3)
    assert quantile({0.1: 0.0, np.inf: 4.0}, 0.5) == 0.1
