"""Poisson regression of counts, with exposures as offsets."""

from typing import Any

import numpy as np
from scipy.optimize import minimize

import gradwire as gw
from examples.running import run


def poisson(
    params: dict[str, gw.Expression], x: gw.Expression, exposure: gw.Expression, count: gw.Expression
) -> gw.Expression:
    """rate - count log(rate), of one example, for log(rate) = w.x + b + log(exposure)."""
    log_rate = gw.dot(params["w"], x) + params["b"] + gw.log(exposure)
    return gw.exp(log_rate) - count * log_rate


def main(client: gw.Client) -> Any:
    """Coefficients; the data were made with w = (0.3, -0.2) and b = 0.5."""
    random = np.random.default_rng(0)
    x, exposure = random.normal(size=(2000, 2)), random.uniform(0.5, 2.0, size=2000)
    count = random.poisson(exposure * np.exp(x @ [0.3, -0.2] + 0.5))
    start, unravel = gw.ravel_pytree({"w": np.zeros(2), "b": 0.0})
    step = client.value_and_grad(poisson, per_example=("x", "exposure", "count"))

    def of_vector(vector: Any) -> tuple[float, Any]:
        value, grads = step(unravel(vector), x=x, exposure=exposure, count=count.astype(float))
        return value, gw.ravel_pytree(grads)[0]

    found: dict[str, Any] = minimize(of_vector, start, jac=True)
    return unravel(found["x"])


if __name__ == "__main__":
    run(main)
