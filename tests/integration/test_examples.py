"""The examples: each finds what its data were made with, and its loss has the value and gradient of JAX."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

import gradwire as gw
from examples import (
    bradley_terry,
    cox,
    design,
    digits,
    dp_sgd,
    dpo,
    estimator,
    grpo,
    matrix_factorisation,
    ordinal,
    poisson,
)

BIN = Path(sys.executable).parent
FOLDER = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "running"))


def near(*expected: float, within: float) -> Callable[[Any], bool]:
    return lambda found: np.allclose(np.concatenate([np.ravel(part) for part in found]), expected, atol=within, rtol=0)


FOUND: dict[str, Callable[[Any], bool]] = {
    "bradley_terry": lambda found: np.allclose(found[1]["chosen"], -found[1]["rejected"]),
    "cox": near(1, -0.5, 0, within=0.2),
    "design": near(3.745, 7.490, within=1e-3),
    "digits": lambda accuracy: accuracy > 0.88,
    "dp_sgd": lambda accuracy: accuracy > 0.97,
    "dpo": lambda found: np.allclose(found[1]["chosen"], -found[1]["rejected"]),
    "estimator": near(1, 2, 3, within=0.1),
    # About |advantage| / 128 where nothing is clipped; what the penalty adds is a hundredth of that.
    "grpo": lambda found: np.median(np.abs(found[1])) > 0.5 / 128,
    "matrix_factorisation": lambda error: error < 0.15,
    "ordinal": near(1, -1, -1, 0, 1.5, within=0.2),
    "poisson": lambda found: near(0.3, -0.2, 0.5, within=0.1)([found["w"], found["b"]]),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_finds_what_its_data_were_made_with(client: gw.Client, name: str) -> None:
    assert FOUND[name](import_module(f"examples.{name}").main(client))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 60


class Case(NamedTuple):
    ours: Callable[..., gw.Expression]
    theirs: Callable[..., Any]
    """The loss of one example, or of all where none is per-example."""
    params: Any
    data: dict[str, Any]
    shared: Mapping[str, Any] = MappingProxyType({})
    ties: str = "zero"


random = np.random.default_rng(11)
N = 7


def normal(*shape: int) -> Any:
    return random.normal(size=shape)


def huber_of_jax(prediction: Any, target: Any) -> Any:
    error = jnp.abs(prediction - target)
    return jnp.where(error < 1, error**2, 2 * error - 1)


def dpo_of_jax(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any, beta: Any) -> Any:
    return -jax.nn.log_sigmoid(beta * ((chosen - rejected) - (ref_chosen - ref_rejected)))


def clipped_of_jax(logp: Any, old: Any, ref: Any, advantage: Any, epsilon: Any, beta: Any) -> Any:
    ratio = jnp.exp(logp - old)
    objective = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)
    return beta * (jnp.exp(ref - logp) - (ref - logp) - 1) - objective


def cox_of_jax(w: Any, x: Any, outside: Any, event: Any) -> Any:
    risk = x @ w
    at_risk = [risk[jnp.array(np.flatnonzero(np.isfinite(row)))] for row in outside]
    total = jnp.stack([jax.scipy.special.logsumexp(part) for part in at_risk])
    return jnp.sum(event * (total - risk)) / jnp.sum(event)


def poisson_of_jax(params: Any, x: Any, exposure: Any, count: Any) -> Any:
    rate = exposure * jnp.exp(params["w"] @ x + params["b"])
    return rate - count * jnp.log(rate)


def ordinal_of_jax(params: Any, x: Any, grade: Any) -> Any:
    cuts = params["first"] + jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.exp(params["log_gaps"]))])
    below = jax.nn.sigmoid(cuts - params["w"] @ x)
    return -jnp.log(jnp.diff(jnp.concatenate([jnp.zeros(1), below, jnp.ones(1)]))[grade])


def rating_of_jax(factors: Any, user: Any, item: Any, stars: Any) -> Any:
    u, i = factors["users"][user], factors["items"][item]
    return (u @ i + factors["mean"] - stars) ** 2 + 0.01 * (u @ u + i @ i)


def our_rating(factors: Any, user: Any, item: Any, stars: Any) -> gw.Expression:
    return matrix_factorisation.rating(matrix_factorisation.Factors(**factors), user, item, stars)


def mlp_of_jax(params: Any, x: Any, label: Any) -> Any:
    hidden = jax.nn.relu(params[0]["w"] @ x + params[0]["b"])
    return -jax.nn.log_softmax(params[1]["w"] @ hidden + params[1]["b"])[label]


LAYERS = [{"w": normal(4, 3), "b": normal(4)}, {"w": normal(2, 4), "b": normal(2)}]
FACTORS = {"users": normal(3, 2), "items": normal(4, 2), "mean": np.array(0.5)}
OUTSIDE = np.where(np.arange(N) >= np.arange(N)[:, None], 0.0, -np.inf)
EVENTS = np.eye(N)[2] + np.eye(N)[4]
REWARDS = {"chosen": normal(N), "rejected": normal(N)}
CUTS = {"w": normal(2), "first": np.array(-0.5), "log_gaps": normal(2)}
LINEAR = {"w": normal(2), "b": np.array(0.3)}
COUNTS = {"x": normal(N, 2), "exposure": random.uniform(0.5, 2, N), "count": random.integers(0, 5, N).astype(float)}
RATINGS = {"user": random.integers(3, size=N), "item": random.integers(4, size=N), "stars": normal(N)}
PAIRS = {"rejected": normal(N), "ref_chosen": normal(N), "ref_rejected": normal(N)}
TOKENS = {"old": normal(N), "ref": normal(N), "advantage": normal(N)}

CASES = {
    "bradley_terry": Case(
        bradley_terry.preference,
        lambda r, margin: jnp.log1p(jnp.exp(r["rejected"] + margin - r["chosen"])),
        REWARDS,
        {"margin": normal(N)},
    ),
    "cox": Case(
        cox.cox, cox_of_jax, normal(3), {}, {"x": normal(N, 3), "outside": OUTSIDE, "event": np.eye(N)[2] + 0.5}
    ),
    "design": Case(
        lambda sizes: gw.add(*design.can(**sizes).values()),
        lambda sizes: sum(design.can(**sizes).values()),
        {"radius": np.array(3.0), "height": np.array(7.0)},
        {},
    ),
    "digits": Case(digits.mlp, mlp_of_jax, LAYERS, {"x": normal(N, 3), "label": random.integers(2, size=N)}),
    "dp_sgd": Case(
        dp_sgd.logistic,
        lambda p, x, y: jnp.log1p(jnp.exp(-y * (p["w"] @ x + p["b"]))),
        LINEAR,
        {"x": normal(N, 2), "y": np.sign(normal(N))},
    ),
    "dpo": Case(dpo.dpo, dpo_of_jax, normal(N), PAIRS, {"beta": 0.1}),
    "estimator": Case(estimator.huber, huber_of_jax, 0.2, {"target": normal(N)}),
    "grpo": Case(grpo.clipped, clipped_of_jax, normal(N), TOKENS, {"epsilon": 0.2, "beta": 0.04}, "split"),
    "matrix_factorisation": Case(our_rating, rating_of_jax, FACTORS, RATINGS),
    "ordinal": Case(ordinal.ordinal, ordinal_of_jax, CUTS, {"x": normal(N, 2), "grade": random.integers(4, size=N)}),
    "poisson": Case(poisson.poisson, poisson_of_jax, LINEAR, COUNTS),
}

OF_INPUTS = {"bradley_terry", "dpo", "grpo"}
"""Where the first argument is per-example too."""


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_an_example_is_that_of_jax(client: gw.Client, name: str) -> None:
    case = CASES[name]
    first = next(iter(gw_names(case.ours)))
    per_example = [*case.data, *([first] if name in OF_INPUTS else [])]
    step = client.value_and_grad(case.ours, per_example=per_example, ties=case.ties)
    value, grads = step(case.params, **case.data, **case.shared)

    def mean(params: Any, data: Any) -> Any:
        if not per_example:
            return case.theirs(params, **case.shared)
        axes = 0 if name in OF_INPUTS else None
        each = jax.vmap(lambda p, d: case.theirs(p, **d, **case.shared), (axes, 0))
        return jnp.mean(each(params, data))

    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, case.params)
        expected, slopes = jax.value_and_grad(mean)(
            params, {key: jnp.asarray(array) for key, array in case.data.items()}
        )
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    assert jax.tree.structure(grads) == jax.tree.structure(slopes)
    for found, slope in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-12)


def gw_names(function: Callable[..., object]) -> list[str]:
    return list(function.__code__.co_varnames)


def test_a_strict_checker_of_types_accepts_them() -> None:
    command = [str(BIN / "basedpyright"), "--project", str(FOLDER.parent / "pyproject.toml")]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0 errors, 0 warnings, 0 notes\n")


def test_scikit_learn_finds_no_fault_with_the_estimator() -> None:
    checks = check_estimator(estimator.LinearRegressor(), on_skip=None)
    assert len([check for check in checks if check["status"] == "passed"]) > 40
