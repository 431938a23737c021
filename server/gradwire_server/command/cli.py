"""The command ``gradwire``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import structlog
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError, get_subcommand

from gradwire_server import logs
from gradwire_server.command.arguments import (
    SUBCOMMANDS,
    Bench,
    Check,
    Completion,
    Convert,
    Explain,
    Gradwire,
    Health,
    Info,
    Top,
)
from gradwire_server.configuration.help import source
from gradwire_server.configuration.settings import PREFIX, Settings, StartError, unknown_variables
from gradwire_server.errors import Refusal
from gradwire_server.version import VERSION


def main() -> None:
    """Run the command; exits with 2 for arguments that are wrong, and with 1 if it cannot do what it is asked."""
    try:
        command = CliApp.run(Gradwire, cli_settings_source=source(Gradwire, SUBCOMMANDS))
        if command.version:
            print(f"gradwire {VERSION}")
            return
        chosen = get_subcommand(command, is_required=False)
    except ValidationError as error:
        _fail(_wrong(error), 2)
    except SettingsError as error:
        _fail(str(error), 2)
    match chosen:
        case Settings():
            _serve(chosen)
        case None:
            CliApp.print_help(Gradwire, file=sys.stderr)
            sys.exit(2)
        case _:
            with _failing():
                _run(chosen)
                sys.stdout.flush()


def _run(chosen: object) -> None:
    """Do what is no server's work. Each imports what it needs: to ask a server takes no engine."""
    match chosen:
        case Explain():
            _explain(chosen)
        case Check():
            from gradwire_server.command.checking import check

            if not check(chosen):
                sys.exit(1)
        case Convert():
            from gradwire_server.command.converting import convert

            _write(convert(chosen), chosen.output)
        case Bench():
            from gradwire_server.command.benching import bench

            with _interrupted(128 + signal.SIGINT):
                if not bench(chosen):
                    sys.exit(1)
        case Top():
            from gradwire_server.command.watching import top

            with _interrupted(0):
                top(chosen)
        case Completion():
            from gradwire_server.command.completing import completion

            print(completion(chosen.shell))
        case Health():
            from gradwire_server.command.asking import health

            status = health(chosen)
            print(status)
            if status != "SERVING":
                sys.exit(1)
        case Info():
            from gradwire_server.command.asking import info

            print(info(chosen))
        case _:
            raise TypeError(f"no such command: {chosen!r}")


def _serve(settings: Settings) -> None:
    logs.configure(settings.log_level, settings.log_format)
    for variable, closest in unknown_variables().items():
        structlog.get_logger().warning("variable is no setting and is ignored", variable=variable, closest=closest)
    for variable in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        # Where another service collects what its processes count; prometheus-client reads it when it is imported.
        os.environ.pop(variable, None)
    if settings.tokens_file is None and os.environ.get(f"{PREFIX}TOKEN_FILE"):
        structlog.get_logger().warning(
            "no call needs a token: this variable is that of clients",
            variable=f"{PREFIX}TOKEN_FILE",
            closest=f"{PREFIX}TOKENS_FILE",
        )
    try:
        if settings.check:
            from gradwire_server.service.process.checking import check

            check(settings)
            print("these options are fine")
        elif settings.workers > 1:
            from gradwire_server.service.process.supervisor import supervise

            supervise(settings)
        else:
            from gradwire_server.service.process.server import serve

            serve(settings)
    except StartError as error:
        _fail(str(error), 1)


@contextmanager
def _interrupted(code: int) -> Iterator[None]:
    """End by a signal only when the terminal is as it was before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(code)


def _explain(command: Explain) -> None:
    # The client's half: expressions and pictures are its own.
    from gradwire._pictures.saving import format_of
    from gradwire_server.command.explaining import explain

    form = command.format or (format_of(command.output) if command.output else "text")
    _write(explain(command.request, form, command.title, dark=command.dark), command.output)


def _write(content: bytes, output: Path | None) -> None:
    """Write to a file and print its path, or to the standard output."""
    if output:
        try:
            output.write_bytes(content)
        except OSError as error:
            # That of a full disk has no name of a file.
            raise OSError(error.errno, error.strerror, str(output)) from None
        print(output)
    else:
        sys.stdout.buffer.write(content)


@contextmanager
def _failing() -> Iterator[None]:
    """End with a line that says what is wrong, in place of a trace."""
    from gradwire import GradwireError, UsageError

    try:
        yield
    except BrokenPipeError:
        # Whoever reads has enough, as `head` does.
        _leave_standard_output()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is None:
            _leave_standard_output()
        _fail(f"cannot read or write {error.filename or 'the standard output'}: {error.strerror}", 1)
    except Refusal as refusal:
        _fail("\n".join(f"{f.path}: {f.message}" if f.path else f.message for f in refusal.findings), 1)
    except GradwireError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1)


def _leave_standard_output() -> None:
    """Have what is still to be written go nowhere: Python tries it again at its end, and fails for good."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _wrong(error: ValidationError) -> str:
    """A line for each option whose value is wrong; of some subcommands the lines are made already."""
    return "\n".join(
        str(found["ctx"]["error"])
        if "error" in found.get("ctx", {})
        else f"{_argument(*found['loc'])}: {found['msg']}; found {found['input']!r}"
        for found in error.errors()
    )


def _argument(command: str | int, name: str | int, *_: str | int) -> str:
    """An option, or an argument without a name of its own, as the help has it."""
    option = str(name).replace("_", "-")
    if len(option) == 1:
        return f"-{option}"
    fields = SUBCOMMANDS[str(command)].model_fields
    return option.upper() if name in fields and fields[str(name)].is_required() else f"--{option}"


def _fail(message: str, code: int) -> NoReturn:
    print(f"gradwire: {message}", file=sys.stderr)
    sys.exit(code)
