"""ADBench's objectives: values and gradients or Jacobians are those that it publishes, and JAX's.

``adbench.json`` has the inputs of its tests and what they expect; of the model of a hand the vertices that they need.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from tests.outside import adbench

PUBLISHED = json.loads(Path(__file__).with_suffix("").with_name("adbench.json").read_text())
pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def client() -> Any:
    with gw.connect("local") as client:
        yield client


def array(given: Any) -> Any:
    return np.array(given, np.float64)


def as_published(found: Any, expected: Any) -> None:
    """Within the tolerance of its own tests."""
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-8)


def as_jax(found: Any, expected: Any) -> None:
    for name, slope in expected.items():
        np.testing.assert_allclose(found[name], slope, rtol=1e-10, atol=1e-10 * max(1, np.abs(slope).max()))


def mixture(client: gw.Client, params: Any, x: Any, wishart: Any) -> tuple[float, dict[str, Any]]:
    n, (gamma, m) = len(x), wishart

    def point(params: Any, x: Any) -> Any:
        return adbench.gmm(np, params, x, n, gamma, m)

    found: tuple[float, dict[str, Any]] = client.value_and_grad(point, per_example="x", reduction="sum")(params, x=x)
    return found


def test_a_mixture_of_gaussians(client: gw.Client) -> None:
    given = PUBLISHED["gmm"]
    params = {name: array(given[name]) for name in ("alphas", "means", "icf")}
    value, slopes = mixture(client, params, array(given["x"]), given["wishart"])
    as_published(value, given["published"]["objective"])
    as_published(gw.ravel_pytree(list(slopes.values()))[0], given["published"]["gradient"])


def test_a_larger_mixture_has_jaxs_gradient(client: gw.Client) -> None:
    random = np.random.default_rng(4)
    k, d, n = 25, 10, 100
    shapes = {"alphas": (k,), "means": (k, d), "icf": (k, d * (d + 1) // 2)}
    params = {name: random.normal(size=shape) for name, shape in shapes.items()}
    x = random.normal(size=(n, d))
    value, slopes = mixture(client, params, x, (1.0, 0))
    total = jax.jit(
        jax.value_and_grad(lambda p: jax.vmap(lambda x: adbench.gmm(jnp, p, x, n, 1.0, 0))(jnp.asarray(x)).sum())
    )
    expected, theirs = total({name: jnp.asarray(own) for name, own in params.items()})
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    as_jax(slopes, theirs)


def test_bundle_adjustment_one_block_of_the_jacobian_for_each_observation(client: gw.Client) -> None:
    given = PUBLISHED["ba"]
    errors, weight_error = given["published"]["errors"][:2], given["published"]["errors"][2]
    sources = {name: array(given[name])[None] for name in ("camera", "point", "weight", "feature")}
    residual = partial(adbench.reprojection, np)
    value, _ = client.vjp(residual, per_example=[*sources])(np.ones((1, 2)), **sources)
    as_published(value[0], errors)
    wrt = ("camera", "point", "weight")
    blocks = client.jacobian(residual, per_example=[*sources], wrt=wrt)(**sources)
    row = np.concatenate([blocks[name].reshape(2, -1) for name in wrt], axis=1)
    as_published(row, given["published"]["jacobian"])
    value, slope = client.value_and_grad(lambda w: 1 - w**2)(given["weight"])
    as_published((value, slope), (weight_error, -0.834044))


def test_the_sparse_jacobian_of_many_observations_is_jaxs(client: gw.Client) -> None:
    random = np.random.default_rng(5)
    cameras = random.normal(size=(4, 11)) * 0.1 + [0.3, 0.2, 0.1, 0, 0, -5, 500, 320, 240, 0, 0]
    points, seen_by, seen = random.normal(size=(30, 3)), random.integers(4, size=90), random.integers(30, size=90)
    sources: dict[str, Any] = {
        "camera": cameras[seen_by], "point": points[seen],
        "weight": random.random(90), "feature": 300 * random.random((90, 2)),
    }  # fmt: skip
    wrt = ("camera", "point", "weight")
    jacobian = client.jacobian(partial(adbench.reprojection, np), per_example=[*sources], wrt=wrt)
    blocks = jacobian(**sources)
    theirs = jax.jit(jax.vmap(jax.jacrev(partial(adbench.reprojection, jnp), (0, 1, 2))))
    expected = theirs(*map(jnp.asarray, sources.values()))
    assert [blocks[name].shape for name in wrt] == [(90, 2, 11), (90, 2, 3), (90, 2)]
    as_jax(blocks, dict(zip(wrt, expected, strict=True)))


def hand_model() -> dict[str, Any]:
    given = PUBLISHED["hand"]

    def rigid(rows: Any) -> Any:
        last = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (len(rows), 1, 4))
        return np.concatenate([array(rows).reshape(-1, 3, 4), last], axis=1)

    positions = array(given["positions"])
    return {
        "parents": given["parents"],
        "base_relatives": rigid(given["base_relatives"]),
        "inverse_base_absolutes": rigid(given["inverse_base_absolutes"]),
        "positions": np.concatenate([positions, np.ones((len(positions), 1))], axis=1),
        "weights": array(given["weights"]),
    }


def simple(xp: Any, theta: Any) -> Any:
    given = PUBLISHED["hand"]
    vertices = adbench.hand(xp, theta, hand_model())
    return array(given["points"]) - vertices[np.array(given["vertices"])]


def complicated(xp: Any, numbers: Any) -> Any:
    given = PUBLISHED["hand"]["complicated"]
    vertices = adbench.hand(xp, numbers[4:], hand_model())
    return array(given["points"]) - adbench.on_triangles(xp, vertices, numbers[:4].reshape(2, 2), given["triangles"])


def in_columns(jacobian: Any) -> Any:
    """Both coordinates of a correspondence are in the columns of its own rows alone, one under the other."""
    corners = jacobian[:, :4]
    return np.concatenate([corners[:3, :2], corners[3:, 2:]]), jacobian[:, 4:]


@pytest.mark.parametrize("objective", [simple, complicated])
def test_hand_tracking(client: gw.Client, objective: Callable[..., Any]) -> None:
    given = PUBLISHED["hand"] if objective is simple else PUBLISHED["hand"]["complicated"]
    at = array(given["theta" if objective is simple else "numbers"])
    value, _ = client.vjp(partial(objective, np))(np.ones((2, 3)), at)
    as_published(value.ravel(), given["published"]["errors"])
    jacobian = client.jacobian(partial(objective, np))(at).reshape(6, -1)
    published = array(given["published"]["jacobian"])
    if objective is complicated:
        corners, rest = in_columns(jacobian)
        as_published(corners, published[:, :2])
        as_published(rest, published[:, 2:])
    else:
        as_published(jacobian, published)


@pytest.mark.outside
@pytest.mark.timeout(120)  # JAX compiles it
def test_hand_tracking_has_jaxs_jacobian(client: gw.Client) -> None:
    at = array(PUBLISHED["hand"]["complicated"]["numbers"])
    expected = jax.jit(jax.jacfwd(partial(complicated, jnp)))(jnp.asarray(at))
    np.testing.assert_allclose(client.jacobian(partial(complicated, np))(at), expected, rtol=1e-10, atol=1e-12)


def letters(given: Any) -> Any:
    bits = bytes.fromhex(given["sequence"])
    return array(np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(-1, 16)[:, 2:])


def test_a_recurrent_network_on_its_first_letters_has_jaxs_gradient(client: gw.Client) -> None:
    given = PUBLISHED["lstm"]
    params, state = {name: array(given[name]) for name in ("main", "extra")}, array(given["state"])
    sequence = letters(given)[:5]
    value, slopes = client.value_and_grad(lambda p: adbench.lstm(np, p, state, sequence))(params)
    total = jax.jit(jax.value_and_grad(lambda p: adbench.lstm(jnp, p, jnp.asarray(state), sequence)))
    expected, theirs = total(params)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    as_jax(slopes, theirs)


@pytest.mark.outside
@pytest.mark.timeout(300)  # 1,023 steps, unrolled
def test_a_recurrent_network_on_all_letters(client: gw.Client) -> None:
    given = PUBLISHED["lstm"]
    params, state = {name: array(given[name]) for name in ("main", "extra")}, array(given["state"])
    value, slopes = client.value_and_grad(lambda p: adbench.lstm(np, p, state, letters(given)))(params)
    as_published(value, given["published"]["objective"])
    found = np.concatenate([slopes["main"].ravel(), slopes["extra"].ravel()])
    as_published(found, given["published"]["gradient"])
