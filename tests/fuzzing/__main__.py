"""``python -m tests.fuzzing``: bytes for the server, guided by the lines of it that they reach."""

import re
from pathlib import Path

import atheris

SERVER = Path(__file__).parents[2] / "server"

# Numba cannot compile what has counters added to it.
COMPILED = [
    ".".join(file.relative_to(SERVER).with_suffix("").parts)
    for file in SERVER.glob("gradwire_server/**/*.py")
    if file.parent.name == "machine" or re.search(r"^from (numba|\S+\.compiled) import", file.read_text(), re.MULTILINE)
]

with atheris.instrument_imports(include=["gradwire_server"], exclude=COMPILED):
    from tests.fuzzing import fuzzer

if __name__ == "__main__":
    fuzzer.main()
