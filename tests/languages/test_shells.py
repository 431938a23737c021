"""What zsh and fish complete of the command; bash is in every test run (``tests/integration/test_shells.py``)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.integration.server_process import DEADLINE
from tests.integration.test_lifecycle import gradwire

pytestmark = pytest.mark.languages

CASES = [
    ("gradwire ch", {"check"}),
    ("gradwire co", {"completion", "convert"}),
    ("gradwire serve --max-bytes-in", {"--max-bytes-in-flight"}),
    ("gradwire check --reduction ", {"mean", "sum"}),
    ("gradwire completion ", {"bash", "fish", "zsh"}),
    ("gradwire explain hin", {"hinge.json"}),
]
"""Words, and what may come for the last of them."""

TYPE = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -U compinit; compinit -D; PS1=REA''DY"
zpty -r -m shell said '*READY*'
zpty -w -n shell "$2"$'\t'
for expected in ${@:3}; do pattern+="*$expected"; done
zpty -r -m shell said "$pattern*"
"""
"""Presses the Tab key in a terminal, and reads until all is there, in the order of the alphabet."""


def shell(name: str) -> str:
    found = which(name)
    assert found is not None, f"tools/install-languages brings {name}"
    return found


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each shell is told, and a file whose name is completed."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "functions").mkdir()
    (folder / "hinge.json").write_text("{}")
    for name, file in (("zsh", "functions/_gradwire"), ("fish", "gradwire.fish")):
        done = gradwire("completion", name)
        assert (done.returncode, done.stderr) == (0, "")
        (folder / file).write_text(done.stdout)
    return folder


@pytest.mark.parametrize(("words", "expected"), CASES)
def test_zsh_completes_what_is_typed(scripts: Path, words: str, expected: set[str]) -> None:
    command = [shell("zsh"), "-f", "-c", TYPE, "zsh", str(scripts / "functions"), words, *sorted(expected)]
    done = subprocess.run(command, cwd=scripts, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("words", "expected"), CASES)
def test_fish_completes_what_is_typed(scripts: Path, words: str, expected: set[str]) -> None:
    command = [shell("fish"), "--no-config", "-c", f"source gradwire.fish; complete -C '{words}'"]
    done = subprocess.run(command, cwd=scripts, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == expected
