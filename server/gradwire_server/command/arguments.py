"""What the command takes: its subcommands and their options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSubCommand,
    CliToggleFlag,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gradwire_server.configuration.settings import Settings, Target


class _Files(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Explain(_Files):
    """Show a graph: values in the boxes, gradients on the edges.

    REQUEST is a TraceGraphRequest, with the graph in it, or a Graph alone, which is shown without values: in protobuf's
    JSON, its text format, or binary. By default a table comes out, for the terminal.
    """

    request: CliPositionalArg[Path]
    """File of the request."""
    output: Path | None = Field(default=None, validation_alias=AliasChoices("o", "output"))
    """File to write: .html (a page to step through the pass), .svg, .png or .txt."""
    format: Literal["html", "svg", "png", "text"] | None = None
    """What to write, if the file's suffix does not say it."""
    title: str | None = None
    """Line above the picture."""
    dark: CliToggleFlag[bool] = False
    """Draw an image for a dark page."""


class Check(_Files):
    """Compare the gradients of a graph with finite differences, on this machine; exits with 1 if one is off.

    GRAPH is a Graph, or a CheckGradientsRequest: in protobuf's JSON, its text format, or binary. What an option says
    counts more than what the request says. Arrays that neither it nor --arrays has are drawn from a standard normal
    distribution; indices are 0.
    """

    graph: CliPositionalArg[Path]
    """File of the graph."""
    arrays: Path | None = None
    """File of arrays by name (.npz, as numpy.savez writes it); those of inputs per example have one more leading
    axis."""
    examples: int = Field(default=3, ge=1, le=1_000_000)
    """Examples to draw, where no array says how many there are."""
    seed: int = Field(default=0, ge=0)
    """Seed of what is drawn."""
    reduction: Literal["mean", "sum"] | None = None
    """How the losses of examples become one. Default: mean."""
    dtype: Literal["float32", "float64"] | None = None
    """What the gradients are computed in; differences are taken in float64. Default: float64."""
    step: float | None = Field(default=None, gt=0)
    """Step of the differences, relative to max(1, |x|). Default: the cube root of the machine epsilon."""
    tolerance: float | None = Field(default=None, gt=0)
    """Largest relative difference, beyond rounding. Default: 1e-6 in float64, 1e-3 in float32."""
    max_probes: int | None = Field(default=None, ge=1, le=1_000_000)
    """Elements to probe of each parameter, evenly spread. Default: 100."""


class Convert(_Files):
    """Write a graph in another form: protobuf's JSON, its text format, or binary.

    GRAPH is in any of these forms, or a model of ONNX (.onnx). The loss of a model is its output, or the sum of the
    output's elements if it has several.
    """

    graph: CliPositionalArg[Path]
    """File of the graph; of a request, its graph is taken."""
    output: Path | None = Field(default=None, validation_alias=AliasChoices("o", "output"))
    """File to write: .json, .txtpb (text) or .binpb (binary). Default: the terminal."""
    to: Literal["json", "text", "binary"] | None = None
    """What to write, if the file's suffix does not say it. Default: text."""
    loss: str | None = None
    """Tensor of a model of ONNX that is its loss, if the model has several outputs."""
    arrays: Path | None = None
    """File to write a model's parameters to (.npz)."""


class Bench(Target):
    """Put load on a server, and show how long calls take: percentiles and a histogram.

    Every call computes the gradients of one graph, by default of a hinge loss of 30 features, at arrays that are drawn
    once. It ends after --calls or --seconds, whichever comes first. Calls that fail are not tried again; it exits with
    1 if there are any. A caller that no server answers waits a tenth of a second. Options of the connection may also
    stand in the environment, as GRADWIRE_CA for --ca.
    """

    graph: Path | None = None
    """File of the graph, in protobuf's JSON, its text format, or binary. Default: a hinge loss."""
    arrays: Path | None = None
    """File of arrays by name (.npz). Default: standard normal numbers; indices are 0."""
    examples: int = Field(default=100, ge=1, le=1_000_000)
    """Examples of each call, where no array says how many there are."""
    callers: int = Field(default=8, ge=1, le=1000)
    """Calls under way at a time, on one connection."""
    calls: int = Field(default=10_000, ge=1, le=10_000_000)
    """Calls in all, at most."""
    seconds: float = Field(default=10.0, gt=0, le=3600)
    """Seconds in all, at most; calls that are then under way are waited for."""


class Top(_Files):
    """Watch a server: calls by method and status, latency, the engine, memory; Ctrl-C ends it.

    It reads the page that Prometheus reads, every --interval seconds, and shows what happened since the last time.
    """

    url: CliPositionalArg[str] = "http://localhost:9464/metrics"
    """Address of the page."""
    interval: float = Field(default=2.0, ge=0.1, le=3600)
    """Seconds between two looks."""
    once: CliToggleFlag[bool] = False
    """Show what happened since the server started, and end: for scripts."""


class Completion(_Files):
    """Print what has a shell complete the command and its options.

    bash: gradwire completion bash > ~/.local/share/bash-completion/completions/gradwire

    zsh: gradwire completion zsh > "${fpath[1]}/_gradwire"

    fish: gradwire completion fish > ~/.config/fish/completions/gradwire.fish
    """

    shell: CliPositionalArg[Literal["bash", "zsh", "fish"]]
    """The shell: bash, zsh or fish."""


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
    check: CliSubCommand[Check]
    """Compare the gradients of a graph with finite differences."""
    convert: CliSubCommand[Convert]
    """Write a graph in another form."""
    health: CliSubCommand[Health]
    """Ask a server whether it serves."""
    info: CliSubCommand[Info]
    """Ask a server for its version, limits and ops."""
    bench: CliSubCommand[Bench]
    """Put load on a server, and show how long calls take."""
    top: CliSubCommand[Top]
    """Watch a server."""
    completion: CliSubCommand[Completion]
    """Print what has a shell complete the command."""
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


SUBCOMMANDS: Mapping[str, type[BaseModel]] = {
    "serve": Settings,
    "explain": Explain,
    "check": Check,
    "convert": Convert,
    "health": Health,
    "info": Info,
    "bench": Bench,
    "top": Top,
    "completion": Completion,
}
