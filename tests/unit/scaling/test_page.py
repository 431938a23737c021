"""Numbers of docs/scaling.md are those of the committed measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.scaling import kept, page, plots
from tests.benchmarks.scaling.__main__ import main
from tests.benchmarks.scaling.fitting import fit
from tests.benchmarks.scaling.model import Model

LAYOUTS = (
    "in process",
    "one server, examples sent",
    "one server, examples stored",
    "replicas, examples sent",
    "replicas, examples stored",
    "Ray actors",
)

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.timeout(180)  # the page holds simulations of thousands of callers


def test_the_page_is_what_the_measurements_say(tmp_path: Path) -> None:
    text = (ROOT / page.PAGE).read_text()
    measurements = kept.read()
    assert page.filled(text, measurements) == text, "python -m tests.benchmarks.scaling page writes it anew"
    picture = tmp_path / "scaling.svg"
    plots.draw(Model(fit(measurements)), measurements, page.titles(), picture)
    assert picture.read_bytes() == (ROOT / page.PICTURE).read_bytes()


def test_measurements_are_kept_as_they_are(tmp_path: Path) -> None:
    copy = tmp_path / "measurements.json"
    kept.write(kept.read(), copy)
    assert copy.read_bytes() == kept.FILE.read_bytes()


def test_the_model_answers_for_other_clusters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*options: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["scaling", "ask", "--workers", "1", "64", "--widths", "30", "1", *options])
        main()
        return capsys.readouterr().out.splitlines()

    lines = asked()
    assert lines[0] == "| layout | N = 1 | N = 64 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in LAYOUTS]
    assert lines != asked("--hop", "0.01")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0"),
        (0.000_084_2, "s", "84 us"),
        (0.001, "s", "1 ms"),
        (56.3, "s", "56 s"),
        (1395, "s", "1,395 s"),
        (248, "B", "248 B"),
        (1.61e9, "B", "1.6 GB"),
        (1.06e13, "B", "11 TB"),
    ],
)
def test_amounts_have_two_digits_and_a_prefix(value: float, unit: str, text: str) -> None:
    assert page.amount(value, unit) == text
