"""Which part may import which: dependencies point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER, CLIENT = ROOT / "server" / "gradwire_server", ROOT / "client" / "gradwire"

WIRE = ("google", "grpc", "grpc_status", "grpc_health", "grpc_reflection", "gradwire")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Modules that a file imports; those it needs when it is imported itself, or all that run at some time."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def crossing(files: list[Path], forbidden: tuple[str, ...]) -> list[tuple[str, str]]:
    assert files
    return [
        (path.name, module)
        for path in files
        for module in imports(path)
        if any(module == name or module.startswith(f"{name}.") for name in forbidden)
    ]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if "v1" not in path.parts]


RULES = [
    ("engine", files(SERVER / "engine"), (*WIRE, "gradwire_server.codec", "gradwire_server.service")),
    ("codec", files(SERVER / "codec"), ("grpc", "gradwire_server.service")),
    ("errors", [SERVER / "errors.py"], ("gradwire_server", *WIRE)),
    ("logic", [SERVER / "service" / f"{name}.py" for name in ("logic", "cache", "limits", "frames")], ("grpc",)),
    ("service", files(SERVER / "service"), ("numba", "torch", "gradwire_server.engine.ops")),
    (
        "client",
        [path for path in files(CLIENT) if path.name != "_local.py"],
        ("gradwire_server", "prometheus_client", "pydantic", "structlog"),
    ),
]


@pytest.mark.parametrize(("rule", "paths", "forbidden"), RULES, ids=[rule[0] for rule in RULES])
def test_no_import_crosses(rule: str, paths: list[Path], forbidden: tuple[str, ...]) -> None:
    assert crossing(paths, forbidden) == [], rule


def test_the_embedded_mode_imports_the_server_only_when_asked() -> None:
    top = list(imports(CLIENT / "_local.py", top_level=True))
    assert not [module for module in top if module.startswith("gradwire_server")]
    assert [module for module in imports(CLIENT / "_local.py") if module.startswith("gradwire_server")]


@pytest.mark.parametrize("package", [CLIENT, SERVER])
def test_a_package_says_that_it_is_typed(package: Path) -> None:
    assert (package / "py.typed").exists()
