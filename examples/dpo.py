"""Direct preference optimisation (Rafailov et al. 2023): its gradient in log-probabilities goes back to the trainer."""

from typing import Any

import numpy as np

import gradwire as gw
from examples.running import run


def dpo(
    chosen: gw.Expression,
    rejected: gw.Expression,
    ref_chosen: gw.Expression,
    ref_rejected: gw.Expression,
    beta: gw.Expression,
) -> gw.Expression:
    """-log sigmoid(beta ((chosen - ref_chosen) - (rejected - ref_rejected))), of one pair of answers."""
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -gw.log_sigmoid(beta * margin)


PAIRS = ("chosen", "rejected", "ref_chosen", "ref_rejected")


def main(client: gw.Client) -> tuple[float, Any]:
    """The loss, and its gradient in the log-probabilities of the chosen and the rejected answers."""
    random = np.random.default_rng(0)
    pairs: dict[str, Any] = {name: -random.gamma(20, 2, size=8) for name in PAIRS}
    step = client.value_and_grad(dpo, wrt=("chosen", "rejected"), per_example=PAIRS)
    value, gradients = step(**pairs, beta=0.1)
    return float(value), gradients


if __name__ == "__main__":
    run(main)
