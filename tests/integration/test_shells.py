"""What shells and `man` know of the command."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.integration.test_lifecycle import gradwire
from tools.write_manual import PAGE, manual

COMPLETE = """
source "$1"
COMP_WORDS=(gradwire "${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p gradwire | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" gradwire "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = gradwire("completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path_factory.mktemp("completion") / "gradwire"
    file.write_text(done.stdout)
    return file


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ch"], {"check"}),
        (["co"], {"convert", "completion"}),
        (["serve", "--max-b"], {"--max-bytes-in-flight"}),
        (["check", "--red"], {"--reduction"}),
        (["check", "--reduction", ""], {"mean", "sum"}),
        (["serve", "--log-format", ""], {"text", "json"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["explain", "hin"], {"hinge.json"}),
        (["convert", "hinge.json", "-o", "h"], {"hinge.json"}),
        (["bench", "localhost:1", "--graph", "h"], {"hinge.json"}),
    ],
)
def test_bash_completes_commands_options_choices_and_files(
    tmp_path: Path, script: Path, words: list[str], expected: set[str]
) -> None:
    (tmp_path / "hinge.json").write_text("{}")
    bash = which("bash")
    assert bash is not None
    command = [bash, "--norc", "-c", COMPLETE, "bash", str(script), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert expected <= set(done.stdout.split())
    assert {found for found in done.stdout.split() if not found.startswith(words[-1])} == set()


@pytest.mark.parametrize(("shell", "words"), [("zsh", "#compdef gradwire"), ("fish", "complete -c gradwire")])
def test_other_shells_have_a_script(shell: str, words: str) -> None:
    done = gradwire("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout
    assert "max-bytes-in-flight" in done.stdout


def test_the_manual_page_is_what_the_command_says() -> None:
    # `make manual` writes it.
    assert PAGE.read_text() == manual()


def test_man_reads_the_page() -> None:
    groff = which("groff")
    assert groff is not None
    done = subprocess.run([groff, "-man", "-Tutf8", "-ww", PAGE], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "gradwire bench" in done.stdout
