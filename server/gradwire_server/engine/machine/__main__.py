"""``python -m gradwire_server.engine.machine [DTYPE]``: compiles the kernels, so that nobody waits for them later.

With a type it compiles what runs for that alone, and ends when its input does: one process compiles beside another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from threading import Thread
from time import perf_counter

import numpy as np

from gradwire_server.engine.machine.warming import nothing, warm, warm_machine


def main(further: Callable[[], None] = nothing) -> None:
    """Compile what is not cached, ``further`` kernels too, and say how long that takes."""
    if sys.argv[1:]:
        Thread(target=_end_with_input, daemon=True).start()
        warm_machine(np.dtype(sys.argv[1]))
        return
    begun = perf_counter()
    if warm(lambda: print("Compiling kernels; this takes up to a minute ...", flush=True), further):  # noqa: T201  (asked for)
        print(f"Compiled in {perf_counter() - begun:.0f} s.")  # noqa: T201  (asked for)
    else:
        print("The kernels are compiled already.")  # noqa: T201  (asked for)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
