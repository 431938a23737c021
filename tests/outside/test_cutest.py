"""The unconstrained problems of CUTEst, by sif2jax and ``gw.from_jax``: value and gradient are those of JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from tests.outside.cutest import unconstrained

PROBLEMS = unconstrained()

SAMPLE = ["AKIVA", "ALLINITU", "BROWNBS", "CLIFF", "DENSCHNA", "ENGVAL2", "HIMMELBG", "ROSENBR", "SPARSINE"]

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


def check(client: gw.Client, problem: Any) -> None:
    start = np.asarray(problem.y0, float)

    def objective(y: Any) -> Any:
        return problem.objective(y, problem.args)

    value, slope = jax.value_and_grad(objective)(jnp.asarray(start))
    found, slopes = client.value_and_grad(gw.from_jax(objective, start), ties="split")(y=start)
    np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slopes["y"], slope, rtol=1e-9, atol=1e-9 * max(1, np.abs(slope).max()))


@pytest.mark.timeout(180)  # JAX compiles each operation
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_problems(client: gw.Client, name: str) -> None:
    check(client, PROBLEMS[name])


@pytest.mark.outside
@pytest.mark.timeout(300)  # as above
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name not in SAMPLE])
def test_all_other_problems(client: gw.Client, name: str) -> None:
    check(client, PROBLEMS[name])
