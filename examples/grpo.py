"""PPO's clipped objective (Schulman et al. 2017) with GRPO's advantages and its penalty (Shao et al. 2024)."""

from typing import Any

import numpy as np

import gradwire as gw
from examples.running import run


def clipped(
    logp: gw.Expression,
    old: gw.Expression,
    ref: gw.Expression,
    advantage: gw.Expression,
    epsilon: gw.Expression,
    beta: gw.Expression,
) -> gw.Expression:
    """-min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) + beta (exp(ref - logp) - (ref - logp) - 1), of one token.

    Where r is not clipped both sides of the minimum are equal: they must share the gradient, which is ``ties="split"``.
    """
    ratio = gw.exp(logp - old)
    objective = gw.minimum(ratio * advantage, gw.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)
    divergence = gw.exp(ref - logp) - (ref - logp) - 1
    return beta * divergence - objective


TOKENS = ("logp", "old", "ref", "advantage")


def main(client: gw.Client) -> tuple[float, Any]:
    """The loss, and its gradient in the log-probability of each token of four answers to each of two prompts."""
    random = np.random.default_rng(0)
    rewards = random.random((2, 4))
    advantage = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    tokens = np.repeat(advantage.ravel(), 16)
    old = -random.gamma(2, 1, size=tokens.size)
    logp, ref = old + random.normal(0, 0.2, old.size), old + random.normal(0, 0.1, old.size)
    step = client.value_and_grad(clipped, per_example=TOKENS, ties="split")
    value, slope = step(logp, old, ref, tokens, epsilon=0.2, beta=0.04)
    return float(value), slope


if __name__ == "__main__":
    run(main)
