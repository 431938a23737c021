"""Graphs in files: their forms, and what the command does with them on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import json_format, text_format
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from tests.integration.command import run
from tests.integration.test_lifecycle import gradwire

W = gw.parameter("w", shape=(2,))
PHI, Y = gw.input("phi", shape=(2,), per_example=True), gw.input("y", per_example=True)
GRAPH = gw.graph(gw.maximum(0, 1 - gw.dot(W, PHI) * Y))


def content(message: Message, form: str) -> bytes:
    """A message as protobuf itself writes it."""
    if form == "json":
        return json_format.MessageToJson(message).encode()
    return text_format.MessageToString(message).encode() if form == "txtpb" else message.SerializeToString()


def cube(at: float, step: float) -> pb.CheckGradientsRequest:
    """The cube of a parameter, whose difference at 0 is the square of the step and no gradient."""
    w = gw.parameter("w")
    request = pb.CheckGradientsRequest(graph=gw.graph(w * w * w), step=step)
    request.tensors["w"].values.append(at)
    return request


@pytest.mark.parametrize("named", [True, False], ids=["suffix", "content"])
@pytest.mark.parametrize(("form", "to"), [("json", "txtpb"), ("txtpb", "binpb"), ("binpb", "json")])
def test_each_form_becomes_another_and_keeps_the_graph(tmp_path: Path, form: str, to: str, named: bool) -> None:
    file, output = tmp_path / (f"graph.{form}" if named else "graph"), tmp_path / f"out.{to}"
    file.write_bytes(content(GRAPH, form))
    done = gradwire("convert", str(file), "-o", str(output))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{output}\n", "")
    found = graph_pb2.Graph()
    if to == "json":
        json_format.Parse(output.read_text(), found)
    elif to == "txtpb":
        text_format.Parse(output.read_text(), found)
    else:
        found.ParseFromString(output.read_bytes())
    assert found == GRAPH


@pytest.mark.parametrize("form", ["txtpb", "binpb"])
def test_every_command_reads_graphs_and_requests_of_each_form(tmp_path: Path, form: str) -> None:
    graph, request = tmp_path / f"graph.{form}", tmp_path / f"request.{form}"
    graph.write_bytes(content(GRAPH, form))
    request.write_bytes(content(cube(at=2.0, step=1e-5), form))
    for command in (["explain", str(graph)], ["check", str(request)]):
        done = gradwire(*command)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert "\nw          ()          1    0                  12          12 " in done.stdout


def test_a_gradient_that_is_off_is_named_and_the_command_fails(tmp_path: Path) -> None:
    w = gw.parameter("w")
    request = pb.CheckGradientsRequest(graph=gw.graph(w * gw.stop_gradient(w)))
    request.tensors["w"].values.append(1.0)
    (tmp_path / "stopped.json").write_bytes(content(request, "json"))
    done = gradwire("check", str(tmp_path / "stopped.json"))
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1] == ["w", "()", "1", "1", "1", "2", "5.0e-01"]
    assert lines[-1] == ["off:", "w"]


def test_a_step_that_is_too_large_is_no_gradient_that_is_off(tmp_path: Path) -> None:
    (tmp_path / "cube.json").write_bytes(content(cube(at=0.0, step=1.0), "json"))
    done = gradwire("check", str(tmp_path / "cube.json"), "--step=1")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "the step is too large to tell, give a smaller one: w"
    assert "off:" not in done.stdout


def test_arrays_of_a_file_are_taken_and_others_drawn_for_as_many_examples(tmp_path: Path) -> None:
    graph, arrays = tmp_path / "graph.binpb", tmp_path / "arrays.npz"
    graph.write_bytes(GRAPH.SerializeToString())
    # One example within the margin, whose gradient is -phi / 2, and one beyond it.
    np.savez(arrays, w=np.array([1.0, 0.0]), phi=np.array([[0.5, 7.0], [2.0, 0.0]]), y=np.array([1.0, 1.0]))
    done = gradwire("check", str(graph), "--arrays", str(arrays))
    assert (done.returncode, done.stderr, "drawn" in done.stdout) == (0, "", False)
    assert done.stdout.split()[14:17] == ["[0]", "-0.25", "-0.25"]
    np.savez(arrays, phi=np.ones((5, 2)))
    assert "drawn with the seed 4: w, y\n" in gradwire("check", str(graph), f"--arrays={arrays}", "--seed=4").stdout
    np.savez(arrays, phy=np.ones((5, 2)))
    done = gradwire("check", str(graph), f"--arrays={arrays}")
    assert (done.returncode, done.stderr) == (
        1,
        'gradwire: no source of the graph has the name "phy"; there are "w", "phi", "y"\n',
    )


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("graph.txtpb", b"nodes { nme: 'w' }", ['no field named "nme"', "TraceGraphRequest or a Graph"]),
        ("graph.txtpb", b"graph { nods {} }", ['no field named "nods"']),
        ("graph.binpb", b"\xff\xff\xff", ["none of them in binary"]),
        ("graph", b"\x00\x01", ["none of them in binary"]),
        ("graph", b"{", ["no JSON in UTF-8"]),
        ("graph.json", b"nodes {}", ["no JSON in UTF-8"]),
    ],
)
def test_what_is_no_graph_is_refused_in_a_line(tmp_path: Path, file: str, text: bytes, words: list[str]) -> None:
    (tmp_path / file).write_bytes(text)
    done = gradwire("convert", str(tmp_path / file))
    assert (done.returncode, done.stdout) == (1, "")
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert len(done.stderr.splitlines()) == 1


def model(path: Path, outputs: tuple[str, ...] = ("y",)) -> None:
    """A linear layer of two features and three outputs."""
    weights = numpy_helper.from_array(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "weights")
    node = helper.make_node("MatMul", ["x", "weights"], [outputs[0]])
    more = [helper.make_node("Neg", [outputs[0]], [name]) for name in outputs[1:]]
    graph = helper.make_graph(
        [node, *more],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 2])],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", 3]) for name in outputs],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


def test_a_model_of_onnx_becomes_a_graph_with_its_parameters_beside_it(tmp_path: Path) -> None:
    model(tmp_path / "model.onnx")
    graph, arrays = tmp_path / "model.binpb", tmp_path / "params.npz"
    done = gradwire("convert", str(tmp_path / "model.onnx"), "-o", str(graph), f"--arrays={arrays}")
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(arrays) as params, gw.connect("local") as client:
        found = graph_pb2.Graph.FromString(graph.read_bytes())
        value, gradients = client.value_and_grad(found)({**params, "x": np.array([[1.0, 10.0]])})
    assert value == 41 + 52 + 63
    np.testing.assert_array_equal(gradients["weights"], [[1.0] * 3, [10.0] * 3])
    assert gradwire("check", str(graph), f"--arrays={arrays}").returncode == 0


def test_a_model_of_several_outputs_needs_the_name_of_its_loss(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    model(file, outputs=("y", "z"))
    done = gradwire("convert", str(file))
    assert (done.returncode, done.stderr) == (
        2,
        "gradwire: the model has the outputs y, z; choose the loss with --loss\n",
    )
    assert "neg" not in gradwire("convert", str(file), "--loss=y").stdout
    assert "no tensor" in gradwire("convert", str(file), "--loss=a").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["graph.json", "-o", "graph.yaml"], 2, "graph.yaml is none of .json, .txtpb"),
        (["graph.json", "--loss=y"], 2, "--loss is for models of ONNX"),
        (["absent.onnx"], 1, "cannot read or write absent.onnx: No such file"),
        (["absent.json"], 1, "cannot read or write absent.json: No such file"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "graph.json").write_bytes(content(GRAPH, "json"))
    done = run("convert", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
