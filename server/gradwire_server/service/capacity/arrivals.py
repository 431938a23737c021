"""Calls whose message is still arriving, of which gRPC shows nothing before it is there as a whole."""

from __future__ import annotations

from gradwire_server.errors import Reason, refuse
from gradwire_server.service.capacity.waits import TimeLimit
from gradwire_server.service.telemetry.metrics import Metrics, Stage


class Arrivals(TimeLimit):
    """Ends the waits for messages that take too long, whether their senders are slow or stand still.

    Such a wait raises a Refusal (DEADLINE_EXCEEDED).
    """

    def __init__(self, seconds: float, metrics: Metrics) -> None:
        super().__init__(seconds)
        self._metrics = metrics

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            super().__exit__(kind, error, trace)
        except TimeoutError:
            self._metrics.cancelled(Stage.RECEIVING)
            self._metrics.refused(Reason.DEADLINE_EXCEEDED)
            raise refuse(
                Reason.DEADLINE_EXCEEDED,
                f"the message of the call was not there as a whole after {self._seconds:g} s (max_arrival); send large "
                "tensors in frames of StreamGradients",
                limit=f"{self._seconds:g}",
                setting="max_arrival",
            ) from None
