"""``python -m gradwire_server.engine.kernels``: compiles the kernels, so that nobody waits for them later."""

from __future__ import annotations

from gradwire_server.engine.kernels.warming import warm


def main() -> None:
    """Compile what is not cached, and say in a line whether there was any."""
    if not warm(lambda: print("Compiling kernels ...", flush=True)):  # noqa: T201  (asked for)
        print("The kernels are compiled already.")  # noqa: T201  (as above)


if __name__ == "__main__":
    main()
