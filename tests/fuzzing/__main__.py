"""``python -m tests.fuzzing``: bytes for the server, guided by the lines of it that they reach."""

from pathlib import Path

import atheris

# Numba cannot compile what has counters added to it.
COMPILED = [
    f"gradwire_server.engine.kernels.{file.stem}"
    for file in Path(__file__).parents[2].glob("server/gradwire_server/engine/kernels/*.py")
]

with atheris.instrument_imports(include=["gradwire_server"], exclude=COMPILED):
    from tests.fuzzing import fuzzer

if __name__ == "__main__":
    fuzzer.main()
