"""``python -m tools.write_manual``: the manual page of the command, for `man`, from what parses its arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from argparse_manpage.manpage import Manpage

from gradwire_server.command.completing import parser

PAGE = Path(__file__).parents[1] / "server" / "gradwire.1"


def manual() -> str:
    """The page, in the format of `man`; it has no date, so that it is the same on every day."""
    os.environ["COLUMNS"] = "80"
    page: Any = Manpage(
        parser(),
        {"description": "a gradient service", "manual_title": "User Commands", "date": " "},
        format="single-commands-section",
    )
    return str(page)


if __name__ == "__main__":
    PAGE.write_text(manual())
