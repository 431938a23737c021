"""Binary classification with the hinge loss: the graph, the data, and the optimum to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import gradwire as gw

Floats = NDArray[np.float64]

REGULARIZATION = 0.01
"""lambda in TrainLoss(w) = mean of max(0, 1 - (w . phi(x)) y) + lambda / 2 |w|^2."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Examples: their features [N, 31], the last of them 1 for the bias, and their labels [N], -1 or 1."""

    features: Floats
    labels: Floats


def hinge_loss(features: int) -> gw.Expression:
    """max(0, 1 - (w . phi) y) of one example, with margin and score by name."""
    w = gw.parameter("w", shape=(features,))
    phi = gw.input("phi", shape=(features,), per_example=True)
    y = gw.input("y", per_example=True)
    score = gw.sum(w * phi).named("score")
    margin = (score * y).named("margin")
    return gw.maximum(1 - margin, 0).named("loss")


def train_loss(features: int) -> gw.Expression:
    """What training minimises, of one example: the hinge loss, and the L2 term that every example has."""
    w = gw.parameter("w", shape=(features,))
    return hinge_loss(features) + REGULARIZATION / 2 * gw.dot(w, w)


def load() -> tuple[Rows, Rows]:
    """Scikit-learn's breast cancer data, 569 x 30: four fifths to train on, the others held out."""
    features, labels = load_breast_cancer(return_X_y=True)
    signs = np.where(labels == 1, 1.0, -1.0)
    train_x, test_x, train_y, test_y = train_test_split(features, signs, test_size=0.2, random_state=0, stratify=signs)
    scaler = StandardScaler().fit(train_x)
    return Rows(_with_bias(scaler.transform(train_x)), train_y), Rows(_with_bias(scaler.transform(test_x)), test_y)


def _with_bias(features: Floats) -> Floats:
    return np.hstack([features, np.ones((len(features), 1))])


def accuracy(w: Floats, rows: Rows) -> float:
    """Share of the rows whose label is the sign of the score."""
    return float(np.mean(np.sign(rows.features @ w) == rows.labels))


def optimum(rows: Rows) -> Floats:
    """The minimiser of the training loss as scikit-learn's own solver finds it."""
    # It minimises |w|^2 / 2 + C sum of hinge losses: the same objective, divided by lambda.
    solver = LinearSVC(
        loss="hinge",
        C=1 / (REGULARIZATION * len(rows.labels)),
        fit_intercept=False,
        tol=1e-8,
        max_iter=1_000_000,
        random_state=0,
    )
    w: Floats = solver.fit(rows.features, rows.labels).coef_[0]
    return w


def objective(w: Floats, rows: Rows) -> float:
    """TrainLoss(w) by the formula, as a check that does without the service."""
    hinge = np.maximum(0, 1 - (rows.features @ w) * rows.labels).mean()
    return float(hinge + REGULARIZATION / 2 * w @ w)
