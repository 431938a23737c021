"""What goes wrong around a server: figures of each fault are shown in a table at the end."""

from __future__ import annotations

from collections.abc import Callable

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
