"""Ordinal regression (McCullagh 1980): grades in an order, by a score and cut points between them."""

from typing import Any

import numpy as np
from scipy.optimize import minimize

import gradwire as gw
from examples.running import run

GRADES = 4


def ordinal(params: dict[str, gw.Expression], x: gw.Expression, grade: gw.Expression) -> gw.Expression:
    """-log P(grade) of one example, as -log(sigmoid(upper - score) - sigmoid(lower - score)) without cancellation.

    Steps between cut points are exponentials, so that the cut points stay in order; the outermost are far away.
    """
    first, gaps = params["first"], gw.exp(params["log_gaps"])
    cuts = first + np.tri(GRADES - 1, GRADES - 2, -1) @ gaps
    score = gw.dot(params["w"], x)
    upper = np.eye(GRADES)[:, : GRADES - 1] @ cuts + [0, 0, 0, 30.0] - score
    lower = np.eye(GRADES, k=-1)[:, : GRADES - 1] @ cuts - [30.0, 0, 0, 0] - score
    # log(s(u) - s(l)) = log s(u) + log s(-l) + log(1 - exp(l - u)).
    log_chance = gw.log_sigmoid(upper) + gw.log_sigmoid(-lower) + gw.log(1 - gw.exp(lower - upper))
    return -gw.take(log_chance, grade)


def main(client: gw.Client) -> Any:
    """Coefficients; the data were made with w = (1, -1) and cut points -1, 0 and 1.5."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 2))
    latent = x @ [1.0, -1.0] + random.logistic(size=3000)
    grade = np.searchsorted([-1.0, 0.0, 1.5], latent)
    start, unravel = gw.ravel_pytree({"w": np.zeros(2), "first": -0.5, "log_gaps": np.zeros(GRADES - 2)})
    step = client.value_and_grad(ordinal, per_example=("x", "grade"))

    def of_vector(vector: Any) -> tuple[float, Any]:
        value, grads = step(unravel(vector), x=x, grade=grade)
        return value, gw.ravel_pytree(grads)[0]

    found: dict[str, Any] = minimize(of_vector, start, jac=True)
    params = unravel(found["x"])
    return params["w"], params["first"] + np.append(0, np.cumsum(np.exp(params["log_gaps"])))


if __name__ == "__main__":
    run(main)
