"""NumPy's functions at the edges: NaN, infinities, the ends of domains, and numbers whose squares no float holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradwire as gw


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


def test_heaviside_passes_nan_on(client: gw.Client) -> None:
    assert np.isnan(client.value_and_grad(lambda x: np.heaviside(x, 0.5))(np.array(np.nan))[0])
