"""Docstrings for the reference: blocks of code that begin with ``::`` become those of Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

_BLOCK = re.compile(r"^::\n\n((?: {4}.*\n?|\n)+)", re.MULTILINE)


class Blocks(Extension):
    """An extension of griffe, which mkdocs.yml names."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of whatever has one."""
        if obj.docstring is not None:
            obj.docstring.value = _BLOCK.sub(_fenced, obj.docstring.value)


def _fenced(block: re.Match[str]) -> str:
    return f"```python\n{textwrap.dedent(block[1]).strip()}\n```\n\n"
