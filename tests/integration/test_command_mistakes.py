"""What the command says of files and arguments that are wrong: a line each, and never a trace."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from google.protobuf import json_format

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server.command import benching
from gradwire_server.command.arguments import Bench, Convert
from gradwire_server.command.converting import convert
from tests.integration.server_process import DEADLINE
from tests.integration.test_graph_files import GRAPH, content
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


def test_a_check_does_what_its_request_says_unless_an_option_says_otherwise(tmp_path: Path) -> None:
    w, x = gw.parameter("w", shape=(3,)), gw.input("x", shape=(3,), per_example=True)
    request = pb.CheckGradientsRequest(
        graph=gw.graph(gw.dot(w * w * w, x) + gw.parameter("other")),
        reduction=pb.REDUCTION_SUM,
        wrt=pb.SourceNames(names=["w"]),
        step=1.0,
        tolerance=1.0,
        max_probes=1,
    )
    for name, values in {"w": [0.0] * 3, "x": [1.0] * 6}.items():
        request.tensors[name].values.extend(values)
        request.tensors[name].shape.extend([2, 3] if name == "x" else [3])
    file = tmp_path / "request.json"
    file.write_text(json_format.MessageToJson(request))
    # The gradient is 0, and the difference of each of the two examples the square of the step.
    row = ["w", "(3,)", "1", "0", "[0]", "0", "2"]
    done = gradwire("check", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:7] for line in done.stdout.splitlines()[3:-2]] == [row]
    assert gradwire("check", str(file), "--tolerance=0.5").returncode == 1
    done = gradwire("check", str(file), "--reduction=mean", "--max-probes=3", "--step=2")
    assert done.stdout.splitlines()[3].split()[2:7] == ["3", "0", "[0]", "0", "4"]


def test_a_graph_without_parameters_is_no_success(tmp_path: Path) -> None:
    file = tmp_path / "graph.binpb"
    file.write_bytes(gw.graph(gw.input("x", per_example=True)).SerializeToString())
    assert "there is nothing to check" in told("check", file)


@pytest.mark.parametrize("command", ["check", "convert", "explain"])
def test_a_file_without_a_graph_is_refused(tmp_path: Path, command: str) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"graphId": "0"}')
    assert f"{file} has the id of a graph, which a server knows" in told(command, file)
    (tmp_path / "empty").write_bytes(b"")
    assert "empty has no graph, or one without nodes" in told(command, tmp_path / "empty")


def test_what_is_no_time_is_not_told_in_seconds() -> None:
    text = gradwire("check", "--help").stdout
    assert "--step RATIO" in text
    assert "SECONDS" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("check g --max-probes 0", "--max-probes: Input should be greater than or equal to 1; found '0'"),
        ("explain g --format pdf", "--format: Input should be 'html', 'svg', 'png' or 'text'; found 'pdf'"),
        ("top --interval 0", "--interval: Input should be greater than or equal to 0.1; found '0'"),
        ("completion cash", "SHELL: Input should be 'bash', 'zsh' or 'fish'; found 'cash'"),
        ("bench --callers 0", "--callers: Input should be greater than or equal to 1; found '0'"),
    ],
)
def test_a_value_that_is_wrong_is_told_with_its_option(arguments: str, words: str) -> None:
    assert told(*arguments.split(), code=2) == f"gradwire: {words}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("explain g -o p.pdf", "p.pdf is none of "),
        ("top localhost:9464", "'localhost:9464' is no address of a page"),
        ("bench http://localhost:1", "has a scheme that gRPC does not know"),
    ],
)
def test_an_argument_that_makes_no_sense_is_one_that_is_wrong(arguments: str, words: str) -> None:
    assert words in told(*arguments.split(), code=2)


def test_a_reader_that_has_enough_is_no_error(graph: Path) -> None:
    command = [sys.executable, "-m", "gradwire_server", "explain", str(graph), "--format=html"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate(timeout=DEADLINE)
    assert (process.returncode, stderr) == (128 + signal.SIGPIPE, b"")


def test_a_disk_that_is_full_is_told_with_the_file(graph: Path) -> None:
    message = "gradwire: cannot read or write /dev/full: No space left on device\n"
    assert told("convert", graph, "-o", "/dev/full", "--to=text") == message
    command = [sys.executable, "-m", "gradwire_server", "convert", str(graph)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, message.replace("/dev/full", "the standard output"))


def test_a_bench_whose_server_is_gone_does_not_spin() -> None:
    load, command = benching.Load(), Bench(address="127.0.0.1:1")

    async def call() -> None:
        async with gw.AsyncClient(command.address, max_attempts=1) as client:
            function = client.value_and_grad(GRAPH)
            values = {"w": np.ones(2), "phi": np.ones((1, 2)), "y": np.ones(1)}
            end = perf_counter() + 20 * benching.PAUSE
            await benching._call(command, function, values, load, end)  # noqa: SLF001  (one caller)

    asyncio.run(call())
    assert 1 <= load.failures["UnavailableError"] <= 20


@pytest.mark.parametrize("form", ["json", "txtpb", "binpb"])
def test_the_graph_of_any_request_is_converted(tmp_path: Path, form: str) -> None:
    wrt = pb.SourceNames(names=["w"])
    requests = (
        pb.RegisterGraphRequest(graph=GRAPH),
        pb.ComputeGradientsRequest(graph=GRAPH, wrt=wrt, reject_non_finite=True),
        pb.CheckGradientsRequest(graph=GRAPH, wrt=wrt, max_probes=2),
        pb.TraceGraphRequest(graph=GRAPH),
    )
    file = tmp_path / f"request.{form}"
    for request in requests:
        file.write_bytes(content(request, form))
        assert graph_pb2.Graph.FromString(convert(Convert(graph=file, to="binary"))) == GRAPH


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("chek g", "there is no command 'chek'; did you mean check?"),
        ("convert g --outptu=x", "unrecognized arguments: --outptu=x; did you mean --output?"),
    ],
)
def test_what_is_mistyped_is_told_with_what_comes_close(arguments: str, words: str) -> None:
    done = gradwire(*arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"gradwire: error: {words}"


def test_an_output_has_a_long_name_too(tmp_path: Path, graph: Path) -> None:
    assert gradwire("convert", str(graph), f"--output={tmp_path / 'graph.json'}").returncode == 0
    assert json_format.Parse((tmp_path / "graph.json").read_bytes(), graph_pb2.Graph()) == GRAPH
    assert "-o FILE, --output FILE" in gradwire("convert", "--help").stdout
