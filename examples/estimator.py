"""An estimator of scikit-learn: linear regression under any loss of one prediction and its target."""
# pyright: reportUnknownMemberType=false

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

import gradwire as gw
from examples.running import run


def huber(prediction: gw.Expression, target: gw.Expression) -> gw.Expression:
    """The square of a small error, and twice the size of a large one less 1 (Huber 1964)."""
    error = gw.abs(prediction - target)
    small = gw.minimum(error, 1)
    return small * (2 * error - small)


class LinearRegressor(RegressorMixin, BaseEstimator):
    """Minimises the mean loss plus alpha |w|^2, by the engine at the target and L-BFGS."""

    def __init__(
        self, loss: Callable[..., gw.Expression] = huber, *, alpha: float = 1e-4, target: str = "local"
    ) -> None:
        self.loss, self.alpha, self.target = loss, alpha, target

    def fit(self, X: Any, y: Any) -> Self:
        """Find the coefficients."""
        rows, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True)

        def total(w: gw.Expression, x: gw.Expression, y: gw.Expression) -> gw.Expression:
            return self.loss(gw.dot(w[:-1], x) + w[-1], y) + self.alpha * gw.sum(w[:-1] ** 2)

        with gw.connect(self.target) as client:
            step = client.value_and_grad(total, per_example=("x", "y"))
            found = minimize(step, np.zeros(np.size(rows, 1) + 1), (rows, targets), jac=True, method="L-BFGS-B")
        self.coef_, self.intercept_, self.n_iter_ = found.x[:-1], found.x[-1], max(1, found.nit)
        return self

    def predict(self, X: Any) -> Any:
        """Predictions for these rows."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_ + self.intercept_


def main(client: gw.Client) -> Any:
    """Coefficients beside three outliers; the data were made with 1 and 2, and 3 as intercept."""
    x = np.random.default_rng(0).normal(size=(100, 2))
    y = x @ [1.0, 2.0] + 3 + np.where(np.arange(100) < 3, 1000.0, 0.0)
    found = LinearRegressor(alpha=0.0).fit(x, y)
    return [*found.coef_, found.intercept_]


if __name__ == "__main__":
    run(main)
