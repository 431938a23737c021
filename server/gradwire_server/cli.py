"""The command ``gradwire``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

import structlog
from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliPositionalArg,
    CliSubCommand,
    CliToggleFlag,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from gradwire_server import logs
from gradwire_server.configuration.help import source
from gradwire_server.configuration.settings import PREFIX, Settings, StartError, Target, unknown_variables
from gradwire_server.errors import Refusal
from gradwire_server.version import VERSION


class Explain(BaseModel):
    """Show a graph: values in the boxes, gradients on the edges.

    REQUEST is a TraceGraphRequest in protobuf's JSON, with the graph in it, or a Graph alone, which is shown without
    values. By default a table comes out, for the terminal.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    request: CliPositionalArg[Path]
    """File of the request."""
    output: Path | None = Field(default=None, alias="o")
    """File to write: .html (a page to step through the pass), .svg, .png or .txt."""
    format: Literal["html", "svg", "png", "text"] | None = None
    """What to write, if the file's suffix does not say it."""
    title: str | None = None
    """Line above the picture."""


class Health(Target):
    """Ask a server for its health; exits with 0 if it serves, and with 1 if it does not.

    Every option may also stand in the environment, as GRADWIRE_CA for --ca.
    """


class Info(Target):
    """Ask a server for its version, its limits and its ops.

    Every option may also stand in the environment, as GRADWIRE_CA for --ca.
    """


class Gradwire(BaseSettings):
    """A gradient service: a loss comes as a graph, then parameters and examples; losses and gradients go back."""

    model_config = SettingsConfigDict(
        cli_prog_name="gradwire",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_enforce_required=True,
        use_attribute_docstrings=True,
    )

    serve: CliSubCommand[Settings]
    """Serve on this machine."""
    explain: CliSubCommand[Explain]
    """Show a graph with its values and gradients."""
    health: CliSubCommand[Health]
    """Ask a server whether it serves."""
    info: CliSubCommand[Info]
    """Ask a server for its version, limits and ops."""
    version: CliToggleFlag[bool] = False
    """Print the version."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments alone: a variable VERSION is somebody else's."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


SUBCOMMANDS: Mapping[str, type[BaseModel]] = {"serve": Settings, "explain": Explain, "health": Health, "info": Info}


def main() -> None:
    """Run the command; exits with 2 for arguments that are wrong, and with 1 if it cannot do what it is asked."""
    try:
        command = CliApp.run(Gradwire, cli_settings_source=source(Gradwire, SUBCOMMANDS))
        if command.version:
            print(f"gradwire {VERSION}")  # noqa: T201  (asked for)
            return
        chosen = get_subcommand(command, is_required=False)
    except ValidationError as error:
        _fail(_wrong(error), 2)
    except SettingsError as error:
        _fail(str(error), 2)
    if isinstance(chosen, Settings):
        _serve(chosen)
    elif isinstance(chosen, Explain):
        _explain(chosen)
    elif isinstance(chosen, Target):
        _ask(chosen)
    else:
        CliApp.print_help(Gradwire, file=sys.stderr)
        sys.exit(2)


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
            from gradwire_server.service.process.checking import check  # noqa: PLC0415  (as below)

            check(settings)
            print("these options are fine")  # noqa: T201  (asked for)
        elif settings.workers > 1:
            from gradwire_server.service.process.supervisor import supervise  # noqa: PLC0415  (a parent needs no gRPC)

            supervise(settings)
        else:
            from gradwire_server.service.process.server import serve  # noqa: PLC0415  (as above)

            serve(settings)
    except StartError as error:
        _fail(str(error), 1)


def _explain(command: Explain) -> None:
    # The client's half: expressions and pictures are its own.
    from gradwire import GradwireError  # noqa: PLC0415  (a server needs no pictures)
    from gradwire._pictures.saving import format_of  # noqa: PLC0415  (as above)
    from gradwire_server.explaining import explain  # noqa: PLC0415  (as above)

    try:
        form = command.format or (format_of(command.output) if command.output else "text")
        content = explain(command.request, form, command.title)
        if command.output:
            command.output.write_bytes(content)
    except OSError as error:
        _fail(f"cannot read or write {error.filename}: {error.strerror}", 1)
    except Refusal as refusal:
        _fail("\n".join(f"{f.path}: {f.message}" if f.path else f.message for f in refusal.findings), 1)
    except (GradwireError, json_format.ParseError) as error:
        _fail(str(error), 1)
    if command.output:
        print(command.output)  # noqa: T201  (the picture's path)
    else:
        sys.stdout.buffer.write(content)


def _ask(target: Target) -> None:
    # The client's half, as above.
    from gradwire import GradwireError  # noqa: PLC0415
    from gradwire_server import asking  # noqa: PLC0415

    try:
        answer = asking.health(target) if isinstance(target, Health) else asking.info(target)
    except GradwireError as error:
        _fail(str(error), 1)
    print(answer)  # noqa: T201  (asked for)
    if isinstance(target, Health) and answer != "SERVING":
        sys.exit(1)


def _wrong(error: ValidationError) -> str:
    # Each is that of a subcommand's options.
    return "\n".join(str(found.get("ctx", {}).get("error", found["msg"])) for found in error.errors())


def _fail(message: str, code: int) -> NoReturn:
    print(f"gradwire: {message}", file=sys.stderr)  # noqa: T201  (for the person at the terminal)
    sys.exit(code)
