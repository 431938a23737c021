"""Rows of uploaded examples that a request lists: few are copied by the thread that asks, many by all that are free."""

from __future__ import annotations

from threading import current_thread
from typing import Any

import numpy as np
import pytest

from gradwire_server import engine
from gradwire_server.service.requests import rows
from gradwire_server.service.requests.rows import Gather

INDICES = np.array([4, 0, 0, 9, 3])


class CancelledError(Exception):
    """What ends the copying."""


@pytest.fixture
def threads() -> Any:
    return engine.Threads(2)


def sources(width: int, dtype: Any = np.float64) -> dict[str, np.ndarray[Any, Any]]:
    numbers = np.arange(10 * width).astype(dtype)
    return {"x": numbers.reshape(10, width), "y": numbers[:10], "empty": np.zeros((10, 0), dtype)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("width", [3, 100_000])
def test_rows_are_those_that_are_listed(threads: Any, width: int, dtype: Any) -> None:
    given = sources(width, dtype)
    gather = Gather(given, INDICES)
    assert (gather.memory > rows.FEW_BYTES) == (width == 100_000)
    copies = gather.copies(threads, engine.unhurried)
    for name, array in given.items():
        np.testing.assert_array_equal(copies[name], array[INDICES], strict=True)
        assert not np.shares_memory(copies[name], array)


def test_no_rows_are_copied_of_no_indices(threads: Any) -> None:
    copies = Gather(sources(3), np.array([], np.int64)).copies(threads, engine.unhurried)
    assert {name: copy.shape for name, copy in copies.items()} == {"x": (0, 3), "y": (0,), "empty": (0, 0)}


def test_many_rows_are_copied_part_by_part_until_the_work_is_stopped() -> None:
    asked, alone = [], engine.Threads(1)  # another one might have copied all before

    def checkpoint() -> None:
        asked.append(current_thread())
        raise CancelledError

    with pytest.raises(CancelledError):
        Gather(sources(100_000), INDICES).copies(alone, checkpoint)
    assert asked == [current_thread()]
