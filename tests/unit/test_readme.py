"""What the README shows is so: its code runs and prints what it says, its table of ops is the engine's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

import gradwire as gw
from gradwire_server.configuration.settings import Settings, Target
from gradwire_server.engine import OPS
from gradwire_server.service.telemetry.metrics import CallMetrics, Metrics
from gradwire_server.service.telemetry.numbers import Numbers

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_code_prints_what_the_readme_says() -> None:
    code, further = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    [printed] = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (printed, "")
    random = np.random.default_rng(0)
    params = {"w1": random.normal(size=(4, 3)), "b1": np.zeros(4), "w2": random.normal(size=4)}
    with gw.connect("local") as client:
        names: dict[str, Any] = {
            "gw": gw,
            "client": client,
            "params": params,
            "features": np.ones((2, 3)),
            "targets": np.ones(2),
        }
        exec(further, names)  # noqa: S102  (it is ours)
    assert {name: slope.shape for name, slope in names["grads"].items()} == {"w1": (4, 3), "b1": (4,), "w2": (4,)}


def test_the_table_of_ops_is_the_engines() -> None:
    table = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert table == [(op.name, op.summary, op.derivative) for op in OPS.values()]


def test_every_link_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())]
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []


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
