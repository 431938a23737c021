"""What goes wrong around a server: figures of each fault are shown in a table at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

Tell = Callable[[str, str], None]

_KEY = "fault"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="faults at full length, which takes minutes")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether faults have their full length."""
    return bool(request.config.getoption("--full", default=False))


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Put a row into the table: the fault, and what became of it."""
    return lambda fault, outcome: record_property(_KEY, (fault, outcome))


@dataclass(frozen=True, slots=True)
class Faults:
    """How long a fault lasts, and the figures of it."""

    full: bool
    _name: str
    _tell: Tell

    def of(self, short: int, full: int) -> int:
        """How much of it: in the normal run of the tests, and at full length."""
        return full if self.full else short

    def tell(
        self, what: str, found: float, unit: str = "", *, most: float | None = None, least: float | None = None
    ) -> None:
        """Put a figure into the table; at full length it must be within its bounds, which a busy machine may exceed."""
        bounds = [f"{sign} {bound:g}" for sign, bound in (("at most", most), ("at least", least)) if bound is not None]
        figure = f"{found:.4g} {unit}".strip()
        self._tell(f"{self._name}: {what}", f"{figure} ({', '.join(bounds)})" if bounds else figure)
        if self.full:
            assert most is None or found <= most, what
            assert least is None or found >= least, what


@pytest.fixture
def faults(request: pytest.FixtureRequest, full: bool, tell: Tell) -> Faults:
    return Faults(full, request.node.name.removeprefix("test_").replace("_", " "), tell)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for key, value in report.user_properties
        if key == _KEY
    ]
    if rows:
        width = max(len(fault) for fault, _ in rows)
        terminalreporter.section("faults")
        for fault, outcome in rows:
            terminalreporter.line(f"{fault:<{width}}  {outcome}")
