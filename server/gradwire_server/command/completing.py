"""What shells and `man` are told of the command, from what parses its arguments."""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import shtab

from gradwire_server.command.arguments import SUBCOMMANDS, Gradwire
from gradwire_server.configuration.help import fields_of, source


def parser() -> ArgumentParser:
    """What parses the arguments of the command."""
    found: ArgumentParser = source(Gradwire, SUBCOMMANDS).root_parser
    return found


def completion(shell: str) -> str:
    """The script that has a shell complete the command, its options, their choices, and names of files."""
    found = parser()
    for action in _actions(found):
        # A line has room for one sentence.
        action.help = action.help and " ".join(action.help.split()).partition(". ")[0]
        kinds = KINDS.get(action.dest, set())
        if Path in kinds:
            action.complete = shtab.FILE
        elif choices := [kind for kind in kinds if isinstance(kind, str)]:
            action.choices = sorted(choices)
    return str(shtab.complete(found, shell=shell))


def _kinds(annotation: Any) -> set[Any]:  # noqa: ANN401  (a type)
    """What a value may be: types, and strings of a choice."""
    inside = get_args(annotation)
    return set().union(*map(_kinds, inside)) if inside else {annotation}


KINDS = {
    destination: _kinds(model.model_fields[name].annotation)
    for destination, (model, name) in fields_of(SUBCOMMANDS).items()
}
"""What the value of an option may be, by its destination."""


def _actions(found: ArgumentParser) -> Iterator[Any]:
    for action in found._actions:  # noqa: SLF001  (there is no other way to them)
        if isinstance(action, _SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)
        else:
            yield action
