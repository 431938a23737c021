"""What SECURITY.md promises and no request can show: there is no way from what callers send to code that runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from gradwire.v1 import graph_pb2
from gradwire_server.engine import OPS

SERVER = Path(__file__).parents[2] / "server" / "gradwire_server"

RUNS_CODE = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "pickle",
    "marshal",
    "shelve",
    "runpy",
    "subprocess",
}

OUR_OWN = {
    # Begins a second process that compiles kernels, with a command of its own.
    "engine/machine/warming.py": {"subprocess"},
    # The first process of several tells the others their settings, through a pipe.
    "service/process/forkserver.py": {"pickle"},
    "service/process/supervisor.py": {"pickle"},
}
"""Files that run code or read objects, of which no caller has chosen any."""


def used(tree: ast.Module) -> Iterator[str]:
    """Names that a file uses by themselves, or imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                yield name
            case ast.Import(names=aliases):
                yield from (alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(module=str(module), names=aliases):
                yield module.partition(".")[0]
                yield from (alias.name for alias in aliases)


def test_what_runs_code_is_where_no_caller_comes() -> None:
    files = list(SERVER.rglob("*.py"))
    found = {file.relative_to(SERVER).as_posix(): RUNS_CODE & set(used(ast.parse(file.read_text()))) for file in files}
    assert {file: names for file, names in found.items() if names} == OUR_OWN


def test_it_sees_them() -> None:
    source = "import pickle\nfrom importlib import import_module\nfrom marshal import loads\neval('1')"
    assert set(used(ast.parse(source))) & RUNS_CODE == {"pickle", "import_module", "marshal", "eval"}


def test_the_ops_are_those_of_the_contract_and_no_others() -> None:
    kinds = {field.name for field in graph_pb2.Node.DESCRIPTOR.oneofs_by_name["kind"].fields}
    # Sources are no ops; packed scalars hold operations of these ops.
    assert kinds - {"parameter", "input", "constant", "scalars"} == OPS.keys()
