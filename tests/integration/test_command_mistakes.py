"""What the command says of files and arguments that are wrong: a line each, and never a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradwire as gw
from tests.integration.test_graph_files import GRAPH
from tests.integration.test_lifecycle import gradwire


def told(*arguments: object, code: int = 1) -> str:
    """What the command says, in a line, of what it does not do."""
    done = gradwire(*map(str, arguments))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("gradwire: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A file of a hinge loss."""
    file = tmp_path / "graph.binpb"
    file.write_bytes(GRAPH.SerializeToString())
    return file


def test_files_that_hold_no_named_arrays_are_refused(tmp_path: Path, graph: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(2))
    assert "holds one array, without a name; write it with numpy.savez" in told(
        "check", graph, "--arrays", tmp_path / "one.npy"
    )
    assert "is no file of arrays (.npz); numpy.savez writes one\n" in told("check", graph, "--arrays", graph)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    assert "cut.npz is no file of arrays (.npz): " in told("check", graph, "--arrays", tmp_path / "cut.npz")


def test_an_array_without_an_axis_for_the_examples_is_named(tmp_path: Path, graph: Path) -> None:
    np.savez(tmp_path / "arrays.npz", y=np.float64(1))
    assert '"y"' in told("check", graph, "--arrays", tmp_path / "arrays.npz")


def test_files_that_hold_no_model_of_onnx_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"junk")
    assert f"{file} holds no model of ONNX: " in told("convert", file)
    with pytest.raises(gw.InvalidRequestError, match="holds no model of ONNX"):
        gw.from_onnx(file)
    file.write_bytes(b"")
    assert "the model has no outputs" in told("convert", file)
    with pytest.raises(gw.InvalidGraphError, match="the model has no outputs"):
        gw.from_onnx(file)
