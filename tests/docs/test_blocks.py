"""Every block of code in every page does what the page says."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
from sybil.example import SybilFailure

from tools.site.blocks import Page

ROOT = Path(__file__).parents[2]

OWN = {f"docs/{name}.md" for name in ("command", "mistakes", "other-languages", "side-by-side")}
"""Pages whose blocks are tried by tests of their own: they compare cells, or bring tools along."""

NEEDING_RAY = {"docs/how-to/much-data.md"}

BUILT = {"notebooks", "tutorial"}
"""Folders of pages whose blocks run when the site is built, for it shows what they make."""

PAGES = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
NAMES = {str(page.relative_to(ROOT)) for page in PAGES if page.parent.name not in BUILT}


@pytest.mark.parametrize("page", sorted(NAMES - OWN - NEEDING_RAY))
def test_every_block_does_what_the_page_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: True)  # a person's
    for name in ("deploy", "examples", "protos"):
        (tmp_path / name).symlink_to(ROOT / name)
    with Page(ROOT / page, tmp_path) as blocks:
        blocks.run()


@pytest.mark.cluster
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("page", sorted(NEEDING_RAY))
def test_every_block_on_a_cluster_does_what_the_page_says(page: str, tmp_path: Path) -> None:
    with Page(ROOT / page, tmp_path) as blocks:
        blocks.run()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "it prints\n1\n\nnot\n2"),
        ("```sh\nfalse\n```", "it ends with 1"),
        ("```text\n2\n```", "no block before it prints anything"),
        ("```promql\nsum(\n```", "it ends with 1"),
        ("```rust\nlet x = 1;\n```", "nothing runs a block of rust"),
        ("```\n2\n```", "nothing runs a block of no language"),
    ],
)
def test_what_a_block_does_otherwise_is_told(block: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(block)
    with Page(tmp_path / "page.md", tmp_path) as page, pytest.raises(SybilFailure, match=said):
        page.run()
