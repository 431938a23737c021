"""The help of the command: options under the titles of their sections, with units."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from inspect import cleandoc, get_annotations
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic_settings import BaseSettings, CliSettingsSource

from gradwire_server.configuration.sections import Section
from gradwire_server.configuration.settings import TOKEN_FILES

_BYTES = re.compile(r"\(default: (\d{4,})\)")
_NOTHING = " (default: None)"
_RATIOS = {"step", "tolerance"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def source(command: type[BaseSettings], subcommands: Mapping[str, type[BaseModel]]) -> CliSettingsSource[Any]:
    """What parses the arguments of a command, with help for the options of its subcommands."""
    fields = fields_of(subcommands)
    return CliSettingsSource(
        command,
        parse_args_method=partial(_parse, subcommands),
        add_argument_method=partial(_add_argument, {}, fields),
        add_parser_method=_add_parser,
    )


def fields_of(subcommands: Mapping[str, type[BaseModel]]) -> dict[str, tuple[type[BaseModel], str]]:
    """The model and the field of each option, by its destination."""
    found = {}
    for subcommand, model in subcommands.items():
        for name, field in model.model_fields.items():
            names = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else [name]
            found[f"{subcommand}.{names[0]}"] = (model, name)
    return found


def is_bytes(name: str) -> bool:
    """Whether an option of this name is a number of bytes."""
    return "bytes" in name or "memory" in name


def human(nbytes: int) -> str:
    """A number of bytes as a person writes it; only whole ones get a larger unit."""
    power = 0
    while nbytes and nbytes % 1024 == 0 and power < len(_UNITS) - 1:
        nbytes, power = nbytes // 1024, power + 1
    return f"{nbytes} {_UNITS[power]}"


def _parse(subcommands: Mapping[str, type[BaseModel]], parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """What the arguments say; a subcommand or an option that there is not is told with the closest one."""
    first = next(iter(arguments), "")
    if first and not first.startswith("-") and first not in subcommands:
        parser.error(f"there is no command {first!r}{_advice(first, subcommands)}")
    other, own = TOKEN_FILES.get(first, ("", ""))
    arguments = [re.sub(rf"^{other}(?==|$)", own, argument) if other else argument for argument in arguments]
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        given = unknown[0].partition("=")[0]
        flags = (
            [f"--{name.replace('_', '-')}" for name in subcommands[first].model_fields] if first in subcommands else []
        )
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_advice(given, flags)}")
    return found


def _advice(given: str, known: Iterable[str]) -> str:
    close = get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _add_parser(subparsers: Any, *names: str, description: str, **options: Any) -> ArgumentParser:  # noqa: ANN401  (of argparse)
    parser: ArgumentParser = subparsers.add_parser(*names, description=cleandoc(description), **options)
    return parser


def _add_argument(
    groups: dict[str, Any],
    fields: Mapping[str, tuple[type[BaseModel], str]],
    parser: ArgumentParser,
    *flags: str,
    **options: Any,
) -> object:
    """Add an argument, to the group of its section if it has one."""
    group: Any = parser
    if options.get("dest") in fields:
        model, name = fields[options["dest"]]
        options["help"] = options["help"].replace(_NOTHING, "")
        if is_bytes(name):
            options["help"] = _BYTES.sub(_with_unit, options["help"])
        if options.get("metavar"):
            options["metavar"] = _metavar(name, model.model_fields[name].annotation) or options["metavar"]
        title = _title(model, name)
        if title is not None:
            groups[title] = group = groups.get(title) or parser.add_argument_group(title)
    return group.add_argument(*flags, **options)


def _with_unit(default: re.Match[str]) -> str:
    return f"(default: {default[1]}, {human(int(default[1]))})"


def _title(model: type[BaseModel], name: str) -> str | None:
    """That of the section which an option comes from, if it comes from one."""
    [origin] = [base for base in model.__mro__ if name in get_annotations(base)]
    return (origin.__doc__ or "").partition(".")[0] if issubclass(origin, Section) and origin is not model else None


def _metavar(name: str, annotation: Any) -> str | None:  # noqa: ANN401  (a type)
    """What stands for the value; None for what a list of choices says better."""
    kinds = set(get_args(annotation) if isinstance(annotation, UnionType) else [annotation]) - {type(None)}
    units = {
        "BYTES": is_bytes(name),
        "SECONDS": "seconds" in name,
        "ADDRESS": "host" in name,
        "RATIO": name in _RATIOS,
    }
    for unit, holds in units.items():
        if holds:
            return unit
    return {Path: "FILE", int: "N", float: "SECONDS", str: "NAME"}.get(kinds.pop())
