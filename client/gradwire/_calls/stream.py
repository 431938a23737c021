"""Calls in a row over one stream, for training loops: what every kind of stream has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import Result
from gradwire._calls.untraced import untraced

if TYPE_CHECKING:
    from concurrent.futures import Future

MAX_PENDING = 64
"""Requests under way on one stream; more would only fill memory."""


class Stream(ABC):
    """Calls of one loss in a row, over one stream; made by ``client.stream``. Safe to share among threads.

    Calls may overlap: ``submit`` returns at once, and the server starts on the next request while the answer to
    the last one travels.
    """

    def __init__(self, computation: Computation) -> None:
        self._computation = computation

    @untraced
    def submit(self, *arrays: Any, timeout: float | None = None, **named: Any) -> Future[Result]:
        """Send a request, and return the future of its result; blocks while very many are under way.

        The arrays are copied, so that they may change while the request travels. A future that is cancelled says that
        nobody waits for the result.

        Raises:
            DeadlineExceededError: It could not be sent within ``timeout`` seconds.
            GradwireError: The arrays are none, or the stream is closed. What the server finds is in the future.
        """
        return self._begin(self._computation.values(arrays, named), Deadline(timeout), copy=True)

    @abstractmethod
    def _begin(self, values: Mapping[str, ArrayLike], deadline: Deadline, *, copy: bool) -> Future[Result]:
        """Send a request; without a copy of the arrays they stay as they are until somebody waits no more."""

    @abstractmethod
    def close(self, *, cancel: bool = False) -> None:
        """Wait for the results that are to come, or give them up, and end the stream."""

    @untraced
    def evaluate(self, *arrays: Any, timeout: float | None = None, **named: Any) -> Result:
        """Send a request and wait for the whole result.

        Raises:
            DeadlineExceededError: It was not there after ``timeout`` seconds; the stream goes on.
            GradwireError: Whatever else went wrong with this request; the stream goes on.
        """
        return self._result(self._computation.values(arrays, named), timeout)

    def _result(self, values: Mapping[str, ArrayLike], timeout: float | None) -> Result:
        deadline = Deadline(timeout)
        future = self._begin(values, deadline, copy=False)
        try:
            return future.result(deadline.left)
        except TimeoutError:
            raise deadline.too_late() from None
        finally:
            future.cancel()

    @overload
    def __call__(self, *, timeout: float | None = None, **named: Any) -> tuple[Any, dict[str, Any]]: ...

    @overload
    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]: ...

    @untraced
    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]:
        """Loss and gradients; as ``evaluate``."""
        return self._computation.answer(self._result(self._computation.values(arrays, named), timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)
