"""The hinge loss as a model of UM-Bridge, with value and gradient."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import numpy as np
import umbridge
from aiohttp import web

from tests.benchmarks.peers import hinge

Vectors = Sequence[Sequence[float]]


class Hinge(umbridge.Model):
    """The data travel as its second and third input: an UM-Bridge model takes vectors, as lists."""

    def __init__(self) -> None:
        super().__init__("hinge")

    def get_input_sizes(self, _: Mapping[str, object]) -> list[int]:
        """Lengths of w, phi and y."""
        return [hinge.FEATURES, hinge.EXAMPLES * hinge.FEATURES, hinge.EXAMPLES]

    def get_output_sizes(self, _: Mapping[str, object]) -> list[int]:
        """The loss alone."""
        return [1]

    def supports_evaluate(self) -> bool:
        return True

    def supports_gradient(self) -> bool:
        return True

    def __call__(self, inputs: Vectors, _: Mapping[str, object]) -> list[list[float]]:
        """The loss."""
        value, _gradient = self._compute(inputs)
        return [[float(value)]]

    def gradient(
        self, _out: int, _in: int, inputs: Vectors, sensitivity: Sequence[float], _: Mapping[str, object]
    ) -> list[float]:
        """The gradient in w, times the sensitivity."""
        _value, gradient = self._compute(inputs)
        result: list[float] = (gradient * sensitivity[0]).tolist()
        return result

    @staticmethod
    def _compute(inputs: Vectors) -> tuple[hinge.Floats, hinge.Floats]:
        w, phi, y = (np.asarray(vector) for vector in inputs)
        return hinge.value_and_gradient(w, phi.reshape(hinge.EXAMPLES, hinge.FEATURES), y)


def main() -> None:
    """Serve in this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # serve_models() would listen on a fixed port of all interfaces.
        run_app = web.run_app
        web.run_app = lambda app, port: run_app(app, sock=listener, print=None)
        print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201  (the ready line)
        umbridge.serve_models([Hinge()])


if __name__ == "__main__":
    main()
