"""Cox regression (1972): how covariates change the risk of an event, from times of which some are censored."""

from typing import Any

import numpy as np
from scipy.optimize import minimize

import gradwire as gw
from examples.running import run


def cox(w: gw.Expression, x: gw.Expression, outside: gw.Expression, event: gw.Expression) -> gw.Expression:
    """Minus Breslow's partial log-likelihood: each event against all that were at risk when it happened.

    Args:
        w: [D].
        x: [N, D].
        outside: [N, N]; 0 where the second was at risk at the time of the first, and -inf where it was not.
        event: [N]; 1 for an event, 0 for a time that is censored.
    """
    risk = x @ w
    total = gw.logsumexp(gw.reshape(risk, (1, -1)) + outside, axis=1)
    return gw.sum(event * (total - risk)) / gw.sum(event)


def main(client: gw.Client) -> Any:
    """Coefficients; the data were made with 1, -0.5 and 0."""
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3))
    times = random.exponential(np.exp(-x @ [1.0, -0.5, 0.0]))
    censored = random.exponential(2.0, size=400)
    event = (times <= censored).astype(float)
    seen = np.minimum(times, censored)
    outside = np.where(seen[None, :] >= seen[:, None], 0.0, -np.inf)
    step = client.value_and_grad(cox)

    def of_vector(w: Any) -> Any:
        return step(w, x=x, outside=outside, event=event)

    found: dict[str, Any] = minimize(of_vector, np.zeros(3), jac=True)
    return found["x"]


if __name__ == "__main__":
    run(main)
