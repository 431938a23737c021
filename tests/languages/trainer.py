"""``python -m tests.languages.trainer HOST:PORT FILE``: the steps of the examples in other languages, with the SDK."""

from __future__ import annotations

import sys

import numpy as np

import gradwire as gw

BATCH = 32
EPOCHS = 20
RATE = 0.1


def main(address: str, file: str) -> None:
    """Train on rows of features and a label, and print the loss over all of them and the parameters."""
    rows = np.loadtxt(file, delimiter=",")
    features, labels = rows[:, :-1], rows[:, -1]
    w = np.zeros(features.shape[1])
    parameter = gw.parameter("w", shape=w.shape)
    phi, y = gw.input("phi", shape=w.shape, per_example=True), gw.input("y", per_example=True)
    hinge = gw.maximum(0, 1 - gw.dot(parameter, phi) * y)
    with gw.connect(address) as client, client.stream(hinge) as stream:
        for _ in range(EPOCHS):
            for first in range(0, len(labels), BATCH):
                batch = slice(first, first + BATCH)
                answer = stream.submit(w=w, phi=features[batch], y=labels[batch]).result()
                w = w - RATE * answer.gradients["w"]
        answer = stream.submit(w=w, phi=features, y=labels).result()
    print("loss", float(answer.loss))  # noqa: T201  (its output)
    print("w", *w.tolist())  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
