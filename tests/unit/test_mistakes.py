"""The page of mistakes is right: each library says what the page has it say, and ours has errors of its own.

``python -m tests.unit.test_mistakes`` writes what they say now into the page.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradwire as gw
from tools.site.blocks import sections

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
CELL = re.compile(r"```python\n# (\w+)\n(.*?)```\n\n```text\n(.*?)\n```", re.DOTALL)
LONGEST = 360
"""Characters of a message on the page."""


def said(code: str) -> str:
    """What comes of some code: its error, or what it prints."""
    printed = io.StringIO()
    with gw.connect("local") as client, contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {"np": np, "math": math, "gw": gw, "client": client, "jax": jax, "jnp": jnp}
        try:
            with jax.enable_x64(False):
                exec(compile(code, "mistake", "exec"), names | {"torch": torch})  # noqa: S102  (it is ours)
        except Exception as error:  # noqa: BLE001  (whatever a library raises)
            text = re.sub(r"0x[0-9a-f]+", "0x...", " ".join(str(error).split()))
            text = re.sub(r"(unexpected keyword argument '\w+')\. Did you mean '\w+'\?", r"\1", text)  # by Python 3.13
            text = text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} ..."
            return textwrap.fill(f"{type(error).__name__}: {text}", 118, break_on_hyphens=False, break_long_words=False)
    result = " ".join(printed.getvalue().split())
    return f"No error: {result}" if result else "No error."


SECTIONS = {
    title: [
        (code.partition("\n")[0].removeprefix("# "), code.partition("\n")[2], message.rstrip())
        for (_, code), (_, message) in zip(cells[::2], cells[1::2], strict=True)
    ]
    for title, cells in sections(PAGE).items()
}
"""Library, code and message of each cell."""


@pytest.mark.parametrize("section", SECTIONS)
def test_each_library_says_what_the_page_has(section: str) -> None:
    assert [library for library, _, _ in SECTIONS[section]] == ["gradwire", "JAX", "PyTorch"]
    for _, code, message in SECTIONS[section]:
        assert said(code) == message


def test_there_are_twenty_and_ours_are_its_own() -> None:
    assert len(SECTIONS) == 20
    ours = [cells[0][2] for cells in SECTIONS.values()]
    own = [name for name in gw.__all__ if name.endswith("Error")]
    assert [text for text in ours if not text.startswith((*own, "No error", "TypeError"))] == []


def written(cell: re.Match[str]) -> str:
    library, code, _ = cell.groups()
    return f"```python\n# {library}\n{code}```\n\n```text\n{said(code)}\n```"


if __name__ == "__main__":
    PAGE.write_text(CELL.sub(written, PAGE.read_text()))
