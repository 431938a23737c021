"""What each operator of ``ai.onnx.ml`` is as an expression, as far as it is differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression
from gradwire_imports.onnx_operand import Call
from gradwire_imports.values import Missing, Unsupported, Value


def _transformed(call: Call, scores: Expression) -> Expression:
    kind = call.get("post_transform", "NONE")
    if kind not in ("NONE", "LOGISTIC", "SOFTMAX"):
        raise Unsupported(f"with post_transform {kind}")
    if kind == "NONE":
        return scores
    return gw.sigmoid(scores) if kind == "LOGISTIC" else gw.softmax(scores, -1)


def _linear(call: Call, x: Value, outputs: int) -> Expression:
    """x times coefficients, which are parameters, plus intercepts."""
    given = np.asarray(call.get("coefficients"), np.float32)
    coefficients = call.learned(f"{call.name}.coefficients", given.reshape(outputs, -1))
    scores = gw.matmul(x, gw.transpose(coefficients))
    intercepts = call.get("intercepts")
    if not intercepts:
        return scores
    return gw.add(scores, call.learned(f"{call.name}.intercepts", np.asarray(intercepts, np.float32)))


def linear_regressor(call: Call, x: Value) -> Value:
    """A linear model of numbers."""
    return _transformed(call, _linear(call, x, call.get("targets", 1)))


def linear_classifier(call: Call, x: Value) -> Value:
    """The scores of a linear model of classes; its labels are an order, which has no derivative."""
    labels = call.get("classlabels_ints") or call.get("classlabels_strings") or []
    intercepts = call.get("intercepts") or []
    count = len(intercepts) or len(labels)
    scores = _linear(call, x, count)
    if count == 1 and len(labels) == 2:
        kind = call.get("post_transform", "NONE")
        other = gw.negative(scores) if kind != "LOGISTIC" else None
        if other is None:
            probability = gw.sigmoid(scores)
            return [Missing(), gw.concatenate([gw.sigmoid(gw.negative(scores)), probability], -1)]
        scores = gw.concatenate([other, scores], -1)
    return [Missing(), _transformed(call, scores)]


def scaler(call: Call, x: Value) -> Value:
    """(x - offset) scale."""
    offset, scale = (np.asarray(call.get(name, [default])) for name, default in (("offset", 0.0), ("scale", 1.0)))
    return gw.mul(gw.subtract(x, offset), scale)


def normalizer(call: Call, x: Value) -> Value:
    """Rows divided by their norm."""
    orders: dict[str, Any] = {"L1": 1, "L2": 2, "MAX": math.inf}
    return gw.divide(x, gw.norm(x, orders[call.get("norm", "MAX")], -1, keepdims=True))


def feature_vectorizer(_: Call, *parts: Value) -> Value:
    """Features beside each other."""
    return gw.concatenate(parts, -1)


def array_feature_extractor(call: Call, x: Value, places: Value) -> Value:
    """Columns by number."""
    return gw.take(x, np.asarray(call.integers(places, "places")), -1)


RULES: dict[str, Callable[..., Value]] = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "FeatureVectorizer": feature_vectorizer,
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "Normalizer": normalizer,
    "Scaler": scaler,
}
