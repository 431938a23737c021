"""The page that has losses side by side is right: each cell runs, they agree, and the README counts their lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tools.site.blocks import sections

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECTIONS = {
    title: {first.removeprefix("# "): code for first, _, code in (cell.partition("\n") for _, cell in cells)}
    for title, cells in sections(ROOT / "docs" / "side-by-side.md").items()
}
"""Code by library, of each section."""


def arrays() -> dict[str, Any]:
    random = np.random.default_rng(4)
    layers = [{"w": random.normal(size=shape), "b": random.normal(size=shape[0])} for shape in ((5, 3), (4, 5))]
    pairs = ("chosen", "rejected", "ref_chosen", "ref_rejected")
    return {
        "w": random.normal(size=3),
        "v": random.normal(size=3),
        "x": random.normal(size=(6, 3)),
        "y": np.sign(random.normal(size=6)),
        "label": random.integers(4, size=6),
        "params": layers,
        **{name: random.normal(size=6) for name in pairs},
    }


def lines(code: str) -> int:
    return sum(bool(line.strip()) for line in code.splitlines())


def run(code: str) -> list[Any]:
    names = arrays()
    with jax.enable_x64(True):
        exec(compile(code, "<cell>", "exec"), names)  # noqa: S102  (it is ours)
        if "client" in names:
            names["client"].close()
        leaves = jax.tree.leaves((names["value"], names.get("grads")))
        return [np.asarray(leaf.detach() if hasattr(leaf, "detach") else leaf) for leaf in leaves]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_cells_agree(section: str) -> None:
    cells = SECTIONS[section]
    assert list(cells) == ["gradwire", "JAX", "PyTorch"]
    ours, *others = [run(code) for code in cells.values()]
    assert len(ours) > 0
    for other in others:
        for found, expected in zip(ours, other, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("section", SECTIONS)
def test_ours_is_no_longer_than_that_of_jax_and_the_line_that_connects(section: str) -> None:
    cells = SECTIONS[section]
    assert lines(cells["gradwire"]) <= lines(cells["JAX"]) + 1


def test_the_readme_counts_their_lines() -> None:
    counted = re.findall(
        r"^\| \[(.*?)\]\(docs/side-by-side.md#.*?\) \| (\d+) \| (\d+) \| (\d+) \|$", README, re.MULTILINE
    )
    expected = [(title, *(str(lines(code)) for code in cells.values())) for title, cells in SECTIONS.items()]
    assert counted == expected
