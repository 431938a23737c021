"""Traces as pages and as text; what a browser makes of pages is tested beside ``browser``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from demo.problem import hinge_loss
from gradwire._pictures.text import text_of
from gradwire.v1 import graph_pb2
from gradwire_pictures import page
from gradwire_pictures.page import page_of
from gradwire_server.engine import OPS
from tests.losses import Arrays

ARRAYS: Arrays = {"w": [0.5, 1.0], "phi": [3.0, -1.0], "y": -1.0}


def traced(loss: gw.Expression, arrays: Arrays) -> gw.Trace:
    with gw.connect("local") as client:
        return client.trace(loss, arrays)


def data_of(trace: gw.Trace) -> Any:
    html = page_of(trace._graph, trace._response)  # noqa: SLF001  (its messages)
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(data)


def saved(trace: gw.Trace, path: Path) -> list[str]:
    trace.save(path)
    return path.read_text().splitlines()


def test_a_table_has_a_line_for_each_node_with_its_numbers(tmp_path: Path) -> None:
    assert saved(traced(hinge_loss(2), ARRAYS), tmp_path / "hinge.txt") == [
        "node           from                     value      gradient  sent back",
        "-------------  -----------------------  ---------  --------  -----------------",
        "constant_0     constant                 1",
        "w              parameter                [0.5, 1]   [3, -1]",
        "phi            input                    [3, -1]    [0.5, 1]",
        "mul_3          mul(w, phi)              [1.5, -1]  [1, 1]    [3, -1], [0.5, 1]",
        "score          sum(mul_3)               0.5        1         [1, 1]",
        "y              input                    -1         -0.5",
        "margin         mul(score, y)            -0.5       -1        1, -0.5",
        "constant_7     constant                 -1",
        "mul_8          mul(margin, constant_7)  0.5        1         -1, -0.5",
        "add_9          add(constant_0, mul_8)   1.5        1         1, 1",
        "constant_10    constant                 0",
        "loss  <- loss  max(add_9, constant_10)  1.5        1         1, 0",
    ]


def test_a_table_of_a_graph_alone_has_shapes(tmp_path: Path) -> None:
    gw.save_picture(gw.sum(gw.parameter("w", shape=(2, 3))), tmp_path / "graph.txt", title="A sum")
    assert (tmp_path / "graph.txt").read_text().splitlines() == [
        "A sum",
        "",
        "node            from       shape",
        "--------------  ---------  ------",
        "w               parameter  (2, 3)",
        "sum_1  <- loss  sum(w)",
    ]


def test_a_table_says_where_a_number_is_not_finite(tmp_path: Path) -> None:
    x = gw.parameter("x", shape=(2,))
    lines = saved(traced(gw.sum(gw.log(x)), {"x": [1.0, -2.0]}), tmp_path / "log.txt")
    assert lines[-1] == "The first value that is not finite is nan at [1], at log_1, from x = -2."
    lines = saved(traced(gw.sqrt(gw.parameter("x")), {"x": 0.0}), tmp_path / "root.txt")
    assert lines[-1] == "The first gradient that is not finite is inf, at power_1, from x = 0."


def test_a_table_is_short_where_a_node_is_wide(tmp_path: Path) -> None:
    x, long = gw.parameter("x", shape=(3, 4)), gw.parameter("n" * 60)
    loss = gw.add(gw.sum(x), long, long, long, long, long)
    lines = saved(traced(loss, {"x": np.full((3, 4), 2.0), "n" * 60: 1.0}), tmp_path / "wide.txt")
    assert "(3, 4) norm 6.928" in lines[2]
    assert all(len(line) < 250 for line in lines)
    assert lines[-1].count("…") == 3 + 1 + 1


def test_a_page_has_numbers_in_full_and_of_large_tensors_the_largest_of_each_part() -> None:
    x, w = gw.parameter("x"), gw.parameter("w", shape=(100, 100))
    array = np.zeros((100, 100))
    array[37, 5], array[99, 99] = -7.25, 1 / 3
    data = data_of(traced(gw.sum(w) * x, {"x": 1 / 3, "w": array}))
    nodes = {node["name"]: node for node in data["nodes"]}
    assert nodes["x"]["value"] == 1 / 3
    shown = nodes["w"]["value"]
    assert (shown["shape"], shown["values"]) == ([100, 100], [0, 0, 0, 0])
    assert shown["norm"] == pytest.approx(np.linalg.norm(array))
    assert (len(shown["bars"]), min(shown["bars"]), max(shown["bars"])) == (64, -7.25, 0.3333)


def test_a_page_of_many_large_tensors_is_bounded() -> None:
    node = gw.parameter("w", shape=(1000,))
    arrays = {"w": np.linspace(0.1, 0.9, 1000)}
    for _ in range(2000):
        node = gw.tanh(node)
    data = data_of(traced(gw.sum(node), arrays))
    assert len(json.dumps(data)) < 3_000_000


def test_numbers_that_are_not_finite_are_words_that_a_browser_reads() -> None:
    x = gw.parameter("x")
    data = data_of(traced(gw.log(x) * 0.0 + gw.exp(x * x), {"x": 0.0}))
    assert {node["value"] for node in data["nodes"] if isinstance(node["value"], str)} == {"-Infinity", "NaN"}
    assert data["nonFinite"]["value"] == "-Infinity"


def test_what_a_browser_would_not_open_is_refused() -> None:
    node = graph_pb2.Node(tanh=graph_pb2.Tanh(operands=[0]))
    graph = graph_pb2.Graph(nodes=[graph_pb2.Node(name="x", parameter=graph_pb2.Parameter()), *[node] * 20_000])
    with pytest.raises(gw.GradwireError, match=r"20001 nodes .* a page shows at most 20000"):
        page_of(graph)
    assert "tanh_20000" in text_of(graph)


def test_a_constant_that_is_wrong_is_named() -> None:
    wrong = graph_pb2.Node(constant=graph_pb2.Constant())
    wrong.constant.value.raw = b"123"
    wrong.constant.value.shape.append(2)
    with pytest.raises(gw.InvalidGraphError, match=r"nodes\[0\] is a constant whose elements do not fit its shape"):
        page_of(graph_pb2.Graph(nodes=[wrong]))


def test_the_page_has_a_rule_for_every_op() -> None:
    rules = (Path(page.__file__).parent / "page" / "rules.js").read_text()
    assert set(re.findall(r"^  (\w+): \{", rules, re.MULTILINE)) == {*OPS, "scalars"}


PROGRAM = """
import gradwire as gw
x = gw.parameter("x")
with gw.connect("local") as client:
    trace = client.explain((x * x).named("square"), x=3.0)
print(trace.loss)
"""


def test_explain_opens_the_page_of_the_trace_in_a_browser(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("9.0\n", "")
    [file] = tmp_path.glob("gradwire-*.html")
    assert (tmp_path / "opened").read_text() == f"{file.as_uri()}\n"
    assert "<title>square · gradwire</title>" in file.read_text()


def test_pages_and_tables_need_no_libraries_for_images(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['igraph'] = None; import gradwire as gw; "
        f"[gw.save_picture(gw.tanh(gw.parameter('x')), '{tmp_path}/a' + s) for s in ('.html', '.txt')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("write", [page_of, text_of])
def test_a_graph_that_breaks_the_rules_is_refused(write: Callable[[graph_pb2.Graph], str]) -> None:
    with pytest.raises(gw.InvalidGraphError, match="the loss is node 0, but the graph has 0 nodes"):
        write(graph_pb2.Graph())
    with pytest.raises(gw.InvalidGraphError, match=r"nodes\[0\] has no kind set"):
        write(graph_pb2.Graph(nodes=[graph_pb2.Node()]))
