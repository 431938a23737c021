"""Calls in a row over one stream, for training loops: what every kind of stream has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from numpy.typing import ArrayLike

from gradwire._arrays import Array
from gradwire._errors import DeadlineExceededError
from gradwire._results import Result
from gradwire._steps import seconds


class Stream(ABC):
    """Calls of one loss in a row, over one stream; made by ``client.stream``. Safe to share among threads.

    Calls may overlap: ``submit`` returns at once, and the server starts on the next request while the answer to
    the last one travels.
    """

    @abstractmethod
    def submit(self, arrays: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike) -> Future[Result]:
        """Send a request, and return the future of its result; blocks while very many are under way.

        Raises:
            GradwireError: The arrays are none, or the stream is closed. What the server finds is in the future.
        """

    @abstractmethod
    def close(self, *, cancel: bool = False) -> None:
        """Wait for the results that are to come, or give them up, and end the stream."""

    def evaluate(
        self, arrays: Mapping[str, ArrayLike] | None = None, /, *, timeout: float | None = None, **named: ArrayLike
    ) -> Result:
        """Send a request and wait for the whole result.

        Raises:
            DeadlineExceededError: It was not there after ``timeout`` seconds; the stream goes on.
            GradwireError: Whatever else went wrong with this request; the stream goes on.
        """
        try:
            return self.submit(arrays, **named).result(seconds(timeout))
        except TimeoutError:
            raise DeadlineExceededError(f"the result was not there after {timeout} s") from None

    def __call__(
        self, arrays: Mapping[str, ArrayLike] | None = None, /, *, timeout: float | None = None, **named: ArrayLike
    ) -> tuple[Any, dict[str, Array]]:
        """Loss and gradients; as ``evaluate``."""
        result = self.evaluate(arrays, timeout=timeout, **named)
        return result.loss, result.gradients

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)
