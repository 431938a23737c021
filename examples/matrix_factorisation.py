"""Matrix factorisation of ratings (Koren et al. 2009), with an L2 penalty on the rows that a rating touches."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import gradwire as gw
from examples.running import run


@dataclass
class Factors:
    """A row for each user and each item."""

    users: Any
    items: Any
    mean: Any


def rating(factors: Factors, user: gw.Expression, item: gw.Expression, stars: gw.Expression) -> gw.Expression:
    """(stars - mean - u.i)^2 + 0.01 (|u|^2 + |i|^2), of one rating."""
    u, i = gw.take(factors.users, user), gw.take(factors.items, item)
    penalty = gw.sum(u**2) + gw.sum(i**2)
    return gw.squared_error(gw.dot(u, i) + factors.mean, stars) + 0.01 * penalty


def main(client: gw.Client) -> float:
    """Root of the mean squared error on ratings that were held out; noise is 0.1."""
    random = np.random.default_rng(0)
    users, items = random.normal(size=(60, 3)), random.normal(size=(40, 3))
    user, item = random.integers(60, size=3000), random.integers(40, size=3000)
    stars = (users[user] * items[item]).sum(1) + 3 + random.normal(0, 0.1, size=3000)
    factors = Factors(random.normal(0, 0.3, (60, 3)), random.normal(0, 0.3, (40, 3)), 0.0)
    step = client.value_and_grad(rating, per_example=("user", "item", "stars"))
    for _ in range(400):
        _, grads = step(factors, user=user[:2500], item=item[:2500], stars=stars[:2500])
        factors = Factors(
            factors.users - 6 * grads.users, factors.items - 6 * grads.items, factors.mean - 0.1 * grads.mean
        )
    found = (factors.users[user[2500:]] * factors.items[item[2500:]]).sum(1) + factors.mean
    return float(np.sqrt(np.mean((found - stars[2500:]) ** 2)))


if __name__ == "__main__":
    run(main)
