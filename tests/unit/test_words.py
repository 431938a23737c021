"""Docstrings are sentences whose subject is the thing itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

REFUSED = re.compile(r"\s*(Of|The same|As|Those)\b")
"""Beginnings that leave the reader to look for the noun."""


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string that stands alone: at the head of something, or below a name."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text


def refused(source: str) -> list[int]:
    return [line for line, text in docstrings(source) if REFUSED.match(text)]


def test_no_docstring_begins_with_a_word_that_points_elsewhere() -> None:
    files = [path for part in ("client", "imports", "pictures", "server") for path in (ROOT / part).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)): refused(path.read_text())
        for path in files
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
    }
    assert files
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_it_sees_them_wherever_a_docstring_may_stand() -> None:
    source = '''"""Of modules."""
BYTES = 1
"""As bytes."""
class Node:
    """Offered, asked, the same: no beginning by itself."""
    name: str
    """Those of sources."""
    async def read(self):
        """The same, read."""
        return "Of no docstring"
'''
    assert refused(source) == [1, 3, 7, 9]
