"""A reward model's Bradley-Terry loss on preferences: the gradient in the rewards goes back to the trainer."""

from typing import Any

import numpy as np

import gradwire as gw
from examples.running import run


def preference(rewards: dict[str, gw.Expression], margin: gw.Expression) -> gw.Expression:
    """-log P(chosen over rejected) = -log sigmoid(chosen - rejected - margin), of one comparison."""
    return -gw.log_sigmoid(rewards["chosen"] - rewards["rejected"] - margin)


def main(client: gw.Client) -> tuple[float, Any]:
    """The loss, and its gradients in the rewards, nested as they are."""
    random = np.random.default_rng(0)
    rewards = {"chosen": random.normal(0.5, 1, size=8), "rejected": random.normal(size=8)}
    step = client.value_and_grad(preference, per_example=("rewards", "margin"))
    value, slopes = step(rewards, margin=np.zeros(8))
    return float(value), slopes


if __name__ == "__main__":
    run(main)
