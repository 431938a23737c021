"""What the examples share: a client of the target that the command names."""

import sys
from collections.abc import Callable

import gradwire as gw


def run(main: Callable[[gw.Client], object]) -> None:
    """Print what an example returns, computed by the server at the first argument, or in this process."""
    with gw.connect(sys.argv[1] if len(sys.argv) > 1 else "local") as client:
        print(main(client))
