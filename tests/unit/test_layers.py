"""Which part may import which: dependencies point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER, CLIENT = ROOT / "server" / "gradwire_server", ROOT / "client" / "gradwire"
IMPORTS = ROOT / "imports" / "gradwire_imports"
PICTURES = ROOT / "pictures" / "gradwire_pictures"
ENGINE, SERVICE = SERVER / "engine", SERVER / "service"

WINGS = {
    ENGINE: {
        "graph": "graph: what was said, and is it allowed?",
        "reference": "reference: what does it mean?",
        "lowering": "lowering: what must be done, and where does it live?",
        "machine": "machine: do it, fast.",
        "explain": "explain: show me, and is it right?",
        "run": "run: this request.",
    },
    SERVICE: {
        "requests": "requests: what was asked, and what is the answer?",
        "security": "security: who may call, and how do they know whom they call?",
        "telemetry": "telemetry: what happened, and is it well?",
        "capacity": "capacity: is there room for it, whose turn is it, and how long may it take?",
        "rpc": "rpc: how does a call become a request, and its result an answer?",
        "process": "process: how does the server start, and how does it end?",
    },
}
"""Each with its question. A wing imports only wings of its house that stand above it in this list."""

APART = {("lowering", "reference"), ("explain", "lowering"), ("explain", "machine")}
"""What a wing leaves alone even so."""

SDK_WINGS = {
    "_expressions": "expressions: what did the user write?",
    "_graphs": "graphs: what does the contract have for an expression?",
    "_pictures": "pictures: what does a graph look like?",
    "_calls": "calls: what is asked, and what is the answer?",
    "_transports": "transports: how do calls reach an engine, and their answers come back?",
}
"""Of the SDK, likewise."""

SDK_GROUND = {"_arrays.py", "_errors.py", "_numbers.py"}
"""What all wings of the SDK stand on."""

LINES, FUNCTION_LINES, FIELDS = 400, 60, 10
"""At most, of a file, a function and what only holds values."""

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
    (
        "engine",
        files(ENGINE),
        (*WIRE, "gradwire_server.codec", "gradwire_server.configuration", "gradwire_server.service"),
    ),
    ("codec", files(SERVER / "codec"), ("grpc", "gradwire_server.configuration", "gradwire_server.service")),
    (
        "configuration",
        files(SERVER / "configuration"),
        (*WIRE, "gradwire_server.codec", "gradwire_server.engine", "gradwire_server.service"),
    ),
    (
        "server without its command",
        [path for path in files(SERVER) if path.parent.name != "command" and path.name != "__main__.py"],
        ("gradwire_server.command", "rich", "shtab"),
    ),
    (
        "server without Ray",
        [path for path in files(SERVER) if path.parent.name not in {"ray_serve", "units"}],
        ("gradwire_server.ray_serve", "gradwire_server.units", "ray", "dask", "pyarrow"),
    ),
    ("errors", [SERVER / "errors.py"], ("gradwire_server", *WIRE)),
    ("requests", [*files(SERVICE / "requests"), SERVICE / "rpc" / "frames.py"], ("grpc",)),
    ("service", files(SERVICE), ("numba", "torch", *(f"gradwire_server.engine.{wing}" for wing in WINGS[ENGINE]))),
    (
        "client",
        [path for path in files(CLIENT) if path.name not in {"local.py", "ray.py", "dask.py"}],
        ("gradwire_server", "prometheus_client", "pydantic", "structlog"),
    ),
    (
        "client without pictures",
        [path for path in files(CLIENT) if path.name != "saving.py"],
        ("gradwire_pictures", "igraph", "matplotlib"),
    ),
    (
        "client without other frameworks",
        [path for path in files(CLIENT) if path.name not in {"__init__.py", "jax.py", "openmdao.py", "torch.py"}],
        ("gradwire_imports", "dask", "jax", "onnx", "openmdao", "pyarrow", "ray", "torch"),
    ),
    ("pictures", files(PICTURES), ("gradwire_server", "grpc", "gradwire._calls", "gradwire._transports")),
    ("imports", files(IMPORTS), ("gradwire_server", "grpc", "gradwire_pictures", "gradwire._transports")),
]


@pytest.mark.parametrize(("rule", "paths", "forbidden"), RULES, ids=[rule[0] for rule in RULES])
def test_no_import_crosses(rule: str, paths: list[Path], forbidden: tuple[str, ...]) -> None:
    assert crossing(paths, forbidden) == [], rule


def inside(house: Path, path: Path) -> set[Path]:
    """Files of a house that a file of it imports, those for types alone included."""
    root = next(parent.parent for parent in (CLIENT, IMPORTS, PICTURES, SERVER) if house.is_relative_to(parent))
    found = set()
    for module in imports(path):
        place = root.joinpath(*module.split("."))
        found |= {place.with_suffix(".py"), place / "__init__.py"}
    return found & set(files(house))


def in_a_circle(folder: Path) -> list[str]:
    """Files that import each other, or stand on some that do."""
    left = {path: inside(folder, path) for path in files(folder)}
    while free := {path for path, needs in left.items() if not needs & left.keys()}:
        left = {path: needs for path, needs in left.items() if path not in free}
    return sorted(path.relative_to(folder).as_posix() for path in left)


def said_in(package: Path) -> str:
    """The docstring of a package, which has nothing else."""
    [said] = ast.parse((package / "__init__.py").read_text()).body
    assert isinstance(said, ast.Expr)
    return str(ast.literal_eval(said.value))


def long_files(folder: Path) -> list[str]:
    return [path.name for path in files(folder) if len(path.read_text().splitlines()) > LINES]


def wing(path: Path) -> str:
    """The wing that a file is in; nothing for what all wings of its house stand on."""
    return path.parent.name if path.parent not in WINGS else ""


@pytest.mark.parametrize("house", WINGS, ids=lambda house: house.name)
def test_a_house_has_these_wings(house: Path) -> None:
    assert {path.parent.name for path in house.glob("*/__init__.py")} == set(WINGS[house])
    assert {wing(path) for path in files(house)} == {"", *WINGS[house]}


@pytest.mark.parametrize(
    ("house", "name"),
    [pytest.param(house, name, id=f"{house.name}-{name}") for house, wings in WINGS.items() for name in wings],
)
def test_a_wing_imports_only_wings_below_it_and_says_its_question(house: Path, name: str) -> None:
    order = list(WINGS[house])
    below = {"", *order[: order.index(name) + 1]} - {other for own, other in APART if own == name}
    crossed = {
        (path.name, other.relative_to(house).as_posix())
        for path in files(house / name)
        for other in inside(house, path)
        if wing(other) not in below or other == house / "__init__.py"
    }
    assert crossed == set()
    assert said_in(house / name).lower().startswith(WINGS[house][name])


@pytest.mark.parametrize("house", WINGS, ids=lambda house: house.name)
def test_what_all_wings_stand_on_imports_none(house: Path) -> None:
    ground = [path for path in house.glob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in ground if any(map(wing, inside(house, path)))] == []


@pytest.mark.parametrize("folder", [SERVER, CLIENT, IMPORTS, PICTURES], ids=["server", "sdk", "imports", "pictures"])
def test_no_files_import_each_other(folder: Path) -> None:
    assert in_a_circle(folder) == []


def compiled(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether Numba compiles it: one loop with a switch is then quicker than functions."""
    return any(ast.unparse(decorator).startswith(("compiled", "njit")) for decorator in function.decorator_list)


def test_files_are_short() -> None:
    assert long_files(SERVER) == []


def test_functions_of_the_engine_are_short() -> None:
    long = [
        f"{path.name}: {function.name}"
        for path in files(ENGINE)
        if wing(path) != "machine"
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and not compiled(function)
        if function.end_lineno is None or function.end_lineno - function.lineno >= FUNCTION_LINES
    ]
    assert long == []


def holds_values(kind: ast.ClassDef) -> bool:
    said = [ast.unparse(part) for part in (*kind.decorator_list, *kind.bases)]
    return any(part.split("(")[0].split(".")[-1] in {"dataclass", "NamedTuple", "TypedDict"} for part in said)


def test_what_holds_values_of_the_engine_has_few_fields() -> None:
    kinds = [
        (f"{path.name}: {kind.name}", sum(isinstance(part, ast.AnnAssign) for part in kind.body))
        for path in files(ENGINE)
        for kind in ast.walk(ast.parse(path.read_text()))
        if isinstance(kind, ast.ClassDef) and holds_values(kind)
    ]
    assert len(kinds) > 20
    assert [kind for kind in kinds if kind[1] > FIELDS] == []


def test_the_sdk_has_these_wings_and_short_files() -> None:
    assert {path.parent.name for path in CLIENT.glob("*/__init__.py")} == {*SDK_WINGS, "v1"}
    assert long_files(CLIENT) + long_files(IMPORTS) + long_files(PICTURES) == []


@pytest.mark.parametrize(("name", "question"), SDK_WINGS.items())
def test_a_wing_of_the_sdk_imports_only_wings_below_it_and_says_its_question(name: str, question: str) -> None:
    order = list(SDK_WINGS)
    allowed = set(order[: order.index(name) + 1])
    crossed = {
        (path.name, other.relative_to(CLIENT).as_posix())
        for path in files(CLIENT / name)
        for other in inside(CLIENT, path)
        if (other.name not in SDK_GROUND if other.parent == CLIENT else other.parent.name not in allowed)
    }
    assert crossed == set()
    assert said_in(CLIENT / name).lower() == question


def test_what_all_wings_of_the_sdk_stand_on_imports_none() -> None:
    assert {other.name for name in SDK_GROUND for other in inside(CLIENT, CLIENT / name)} <= SDK_GROUND


def test_the_embedded_mode_imports_the_server_only_when_asked() -> None:
    top = list(imports(CLIENT / "_transports" / "local.py", top_level=True))
    assert not [module for module in top if module.startswith("gradwire_server")]
    assert [module for module in imports(CLIENT / "_transports" / "local.py") if module.startswith("gradwire_server")]


@pytest.mark.parametrize("package", [CLIENT, IMPORTS, PICTURES, SERVER])
def test_a_package_says_that_it_is_typed(package: Path) -> None:
    assert (package / "py.typed").exists()
