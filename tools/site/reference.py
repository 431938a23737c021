"""Pages of the reference that the program itself knows: ops, options and metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gradwire._expressions import functions
from gradwire.v1 import gradient_service_pb2, graph_pb2
from gradwire_server.configuration.help import human, is_bytes
from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.configuration.sections import Section
from gradwire_server.configuration.settings import PREFIX, Settings, Target
from gradwire_server.engine import OPS
from gradwire_server.service.telemetry.metrics import CallMetrics, Metrics
from gradwire_server.service.telemetry.numbers import Numbers
from tools.site.protocol import NAMES, Contract

_MESSAGES = {
    field.name: kind.name for field in graph_pb2.Node.DESCRIPTOR.fields if (kind := field.message_type) is not None
}
"""The message of each kind of node."""


def ops(contract: Contract) -> str:
    """Every op: its value, its local derivative, and what the contract says of it."""
    lines = [
        "# Ops\n",
        "The boxes that a graph is made of, from the engine's table. Functions of the SDK that are not here are",
        "composed of them ([what is an op](../decisions/ops.md)). Elementwise operands broadcast as in NumPy.\n",
        "| op | operands | value | local derivative |\n|---|---|---|---|",
    ]
    for op in OPS.values():
        number = str(op.min_operands) if op.max_operands == op.min_operands else f"{op.min_operands} or more"
        lines.append(f"| [`{op.name}`](#{op.name}) | {number} | {op.summary} | {op.derivative} |")
    for op in OPS.values():
        message = _MESSAGES[op.name]
        link = f"protocol/graph.md#{message.lower()}"
        lines += [f"\n## `{op.name}` {{ #{op.name} }}\n", contract.comment(f"gradwire.v1.{message}"), ""]
        lines.append(f"In the contract: [`{message}`]({link}).")
    return "\n".join(lines) + "\n"


def options() -> str:
    """Every option of the server and of the commands that ask one."""
    lines = [
        "# Options\n",
        "Options of `gradwire serve`. Each may also stand in the environment, or, by the name of its flag with",
        "underscores, in the file that `--config` names. A flag counts more than the environment, and that more than",
        "the file. [In production](../operations.md) says which to choose.\n",
    ]
    sections = [model for model in reversed(Settings.__mro__) if issubclass(model, Section) and model is not Section]
    for section in sections:
        title = (section.__doc__ or "").strip().partition(".")[0]
        names = [name for name in section.model_fields if name in section.__annotations__]
        lines += [f"## {title}\n", *_options(section, names), ""]
    lines += ["## Where options come from\n", *_options(Settings, ["config", "check"]), ""]
    asking = [name for name in Target.model_fields if name != "address"]
    lines += ["## To ask a server\n", "Options of `gradwire health ADDRESS` and `gradwire info ADDRESS`.\n"]
    lines += _options(Target, asking)
    return "\n".join(lines) + "\n"


def _options(model: type[BaseModel], names: list[str]) -> Iterator[str]:
    for name in names:
        field = model.model_fields[name]
        flag = f"--{name.replace('_', '-')}"
        facts = [f"`{PREFIX}{name.upper()}`", *["a limit"] * (name in ServiceLimits.model_fields), *_facts(name, field)]
        text = " ".join((field.description or "").split())
        yield f"### `{flag}` {{ #{flag.strip('-')} }}\n\n{text}\n\n{' · '.join(facts)}\n"


def _facts(name: str, field: FieldInfo) -> Iterator[str]:
    """What values an option takes, and which it has by itself."""
    annotation: Any = field.annotation
    kinds = [kind for kind in (get_args(annotation) if isinstance(annotation, UnionType) else [annotation]) if kind]
    choices = [str(choice) for kind in kinds for choice in get_args(kind) if isinstance(choice, str)]
    if choices:
        yield " or ".join(f"`{choice}`" for choice in choices)
    if field.default is False:
        yield "a switch"
    elif field.default not in {None, PydanticUndefined}:
        unit = f", {human(field.default)}" if is_bytes(name) and human(field.default) != f"{field.default} B" else ""
        yield f"default `{field.default}`{unit}"


def metrics() -> str:
    """Every metric that a server answers Prometheus with."""
    registry = CollectorRegistry()
    numbers = Numbers(registry)
    service: ServiceDescriptor = gradient_service_pb2.DESCRIPTOR.services_by_name["GradientService"]
    CallMetrics(numbers, [service])
    Metrics(numbers)
    lines = [
        "# Metrics\n",
        "What `http://localhost:9464/metrics` has, from the server's registry; beside it those of the process",
        "(`process_...`), and with `--workers` those of their parent.",
        "[In production](../operations.md#metrics) says how to read them.\n",
        f"{NAMES}| metric | kind | meaning |\n|---|---|---|",
    ]
    for family in sorted(registry.collect(), key=lambda family: family.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        listed = ", ".join(f"`{label}`" for label in labels)
        kind = f"{family.type} by {listed}" if listed else family.type
        lines.append(f"| `{name}` | {kind} | {family.documentation} |")
    return "\n".join(lines) + "\n\n</div>\n"


def expressions() -> str:
    """The class of expressions, and every function on them, by the file that it is in."""
    lines = [
        "# Expressions\n",
        "A loss is an expression: of sources, by functions and operators. The functions have the names that NumPy and",
        "Optax give them; NumPy's own may be called too, as in `np.where(x > 0, x, 0)`.\n",
        "::: gradwire.Expression\n",
    ]
    names: dict[str, list[str]] = {}
    for name in functions.__all__:
        names.setdefault(getattr(functions, name).__module__, []).append(name)
    for module in sorted(names, key=lambda module: not module.endswith("sources")):
        title = module.rpartition(".")[2].capitalize()
        about = (sys.modules[module].__doc__ or "").partition("\n")[0]
        lines += [f"## {title}\n", f"{about}\n", *(f"::: gradwire.{name}\n" for name in names[module])]
    return "\n".join(lines)


def source(path: Path, *, searched: bool) -> str:
    """A file of the project, or the texts in a folder of it, as a page."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    lines = [] if searched else ["---\nsearch: {exclude: true}\n---\n"]
    lines.append(f"# `{path.name}`\n")
    for file in files:
        try:
            text = file.read_text()
        except UnicodeDecodeError:  # nothing that one reads
            continue
        if file is not path:
            lines.append(f"## `{file.relative_to(path)}`\n")
        language = {".py": "python", ".yml": "yaml"}.get(file.suffix, file.suffix[1:] or file.name.lower())
        lines.append(f"````{language}\n{text.rstrip()}\n````\n")
    return "\n".join(lines)
