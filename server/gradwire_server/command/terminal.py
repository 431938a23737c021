"""Where the command writes."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 100
"""Columns of what goes to no terminal."""


def console() -> Console:
    """What writes tables to the standard output: names are text, whatever is in them."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False, emoji=False)
