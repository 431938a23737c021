"""The file of what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("measurements.json")
DIGITS = 4
"""Significant ones that are kept; no measurement has more."""


def write(found: Mapping[str, Any], path: Path = FILE) -> None:
    """Keep what was measured, to so many digits, a row of a table a line."""
    lines = []
    for name, value in _rounded(found).items():
        rows = isinstance(value, list) and value and isinstance(value[0], dict)
        text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]" if rows else json.dumps(value)
        lines.append(f" {json.dumps(name)}: {text}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(path: Path = FILE) -> dict[str, Any]:
    """What was measured."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
