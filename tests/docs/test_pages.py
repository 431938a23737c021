"""Pages that are written by hand say what the program says itself, and lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from gradwire_server.configuration.settings import Settings, Target
from gradwire_server.engine import OPS
from gradwire_server.service.telemetry.metrics import CallMetrics, Metrics
from gradwire_server.service.telemetry.numbers import Numbers

ROOT = Path(__file__).parents[2]


def test_the_table_of_ops_in_the_readme_is_the_engines() -> None:
    table = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert table == [(op.name, op.summary, op.derivative) for op in OPS.values()]


def test_every_link_leads_somewhere_also_without_the_site() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())]
    made = re.compile(r"reference/(ops|options|metrics|protocol/\w+|python/expressions)\.md$")
    assert [(page, link) for page, link in links if not made.search(link) and not (page.parent / link).exists()] == []


def test_the_page_for_operators_has_every_metric_and_no_option_that_there_is_not() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    registry = CollectorRegistry()
    numbers = Numbers(registry)
    CallMetrics(numbers, [])
    Metrics(numbers)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    assert sorted(name for name in names if f"`{name}`" not in page) == []
    options = {f"--{name.replace('_', '-')}" for name in (*Settings.model_fields, *Target.model_fields)}
    assert sorted(set(re.findall(r"`(--[a-z-]+)`", page)) - options) == []
