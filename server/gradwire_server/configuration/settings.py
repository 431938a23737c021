"""Settings of the server: the one place that reads the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliToggleFlag,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from gradwire_server import cores
from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.configuration.sections import Section
from gradwire_server.errors import shown

PREFIX = "GRADWIRE_"

LONGEST = 2_000_000
"""Seconds, three weeks, of a time that gRPC takes: it counts milliseconds in 32 bits."""


class StartError(Exception):
    """Why the server cannot start, in a line for the operator."""


class Options(BaseSettings):
    """Options of a command. One that is wrong is named as it is where its value stands."""

    def __init__(self, **flags: Any) -> None:
        try:
            super().__init__(**flags)
        except ValidationError as error:
            variables = EnvSettingsSource(type(self))()

            def named(name: str) -> str:
                if name in flags:
                    return f"--{name.replace('_', '-')}"
                return f"{PREFIX}{name.upper()}" if name in variables else f"{name} in {_file(flags, variables)}"

            lines = [
                f"{named(str(found['loc'][0]))}: {found['msg']}; found {found['input']!r}" for found in error.errors()
            ]
            raise SettingsError("\n".join(lines)) from None


class Addresses(Section):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address to listen on. Other machines reach the server only if it is another one than the default, such as
    0.0.0.0; that needs TLS, or --insecure."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the first line of the output tells."""
    metrics_host: str | None = None
    """Address on which Prometheus finds the metrics, and orchestrators the probes. Default: that of --host."""
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    """Port of /metrics, /livez and /readyz, in plaintext and without tokens; 0 takes a free one."""

    @field_validator("host", "metrics_host")
    @classmethod
    def _is_host(cls, host: str | None) -> str | None:
        # As it stands elsewhere, in front of a port.
        if host and not _is_address(host) and re.search(r"[\s:/\[\]]", host):
            raise PydanticCustomError("host", "Input should be an address or a name, without brackets and port")
        return host


class Access(Section):
    """Who may call."""

    tls_cert: Path | None = None
    """File of the server's certificate, with those between it and its authority (PEM). This file and those of the next
    three options are read again when they change: no restart is needed."""
    tls_key: Path | None = None
    """File of the key to it, without a passphrase (PEM)."""
    tls_client_ca: Path | None = None
    """File of the authorities of clients (PEM): only clients with a certificate of theirs get a connection."""
    tokens_file: Path | None = None
    """File of bearer tokens, one a line; a line that begins with # is a comment. Every call needs one of them, but for
    health."""
    no_reflection: CliToggleFlag[bool] = False
    """Do not describe the services to callers who ask, as grpcurl does (gRPC server reflection)."""
    insecure: CliToggleFlag[bool] = False
    """Listen in plaintext also where other machines reach it: for networks that encrypt by themselves."""


class Operation(Section):
    """How it works and how it ends."""

    workers: int = Field(default=1, gt=0, le=1024)
    """Processes that share the port. More than one is for many small requests: what is Python in a request runs on
    one core in each process. Limits hold for each of them, and so does its memory of registered graphs."""
    threads: int | None = Field(default=None, gt=0, le=4096)
    """Threads that compute, in each worker. Default: one for each core that the process may use, shared among the
    workers; a quota of processor time, as of a container, is not looked at. A large request is computed by all that are
    free; how many they are changes no bit of its results."""
    grace: float = Field(default=30.0, ge=0, le=LONGEST)
    """Seconds that work in flight has to finish when the server is told to stop."""
    announce: float = Field(default=0.0, ge=0, le=LONGEST)
    """Seconds that a server told to stop still takes new calls while its health says NOT_SERVING, so that load
    balancers can turn away from it first."""
    max_arrival: float = Field(default=300.0, gt=0)
    """Seconds in which the message of a call must be there as a whole."""
    max_stall: float = Field(default=60.0, gt=0)
    """Seconds that a stream may stand still in the middle of a request, or with a response that nobody reads, before it
    is ended; and seconds in which the whole response of any other call must be read."""
    max_connection_idle: float | None = Field(default=1800.0, gt=0, le=LONGEST)
    """Seconds without a call after which a connection is closed; clients open it again when they need it."""
    max_connection_age: float | None = Field(default=None, gt=0, le=LONGEST)
    """Seconds after which a connection is closed, a tenth more or less, so that clients come to new replicas too; calls
    under way have the time of --grace to finish. Default: never."""


class Log(Section):
    """What it logs."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of what is logged, to stderr: debug has a line for each call, info one for each that fails, warning
    one for each that fails by a fault of the server."""
    log_format: Literal["text", "json"] | None = None
    """Form of the lines. Default: text on a terminal, JSON elsewhere."""


class Settings(ServiceLimits, Log, Operation, Access, Addresses, Options):
    """Serve on this machine.

    Every option may also stand in the environment, as GRADWIRE_PORT for --port, or in the file that --config names, as
    port = 50051. A flag counts more than the environment, and that more than the file.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid")

    config: Path | None = None
    """File of options (TOML), by their names with underscores."""
    check: CliToggleFlag[bool] = False
    """Only check the options, and the files and certificates that they name; exits with 0 if a server could start."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_there(cls, value: object) -> object:
        # As of a variable of the shell that is not set.
        if isinstance(value, str) and not value.strip():
            raise PydanticCustomError("empty", "Input should not be empty; give a value, or leave the option out")
        return value

    @property
    def threads_of_worker(self) -> int:
        """Threads that compute in each process."""
        return self.threads or max(1, cores.usable() // self.workers)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file that either of them names."""
        del dotenv_settings, file_secret_settings
        flags = init_settings()
        file = _file(flags, env_settings())
        named = "--config" if flags.get("config") else f"{PREFIX}CONFIG"
        return init_settings, env_settings, *([_File(settings_cls, Path(file), named)] if file else [])


class Target(Options):
    """A server to ask. Every option may also stand in the environment, as GRADWIRE_CA for --ca."""

    model_config = SettingsConfigDict(
        frozen=True, use_attribute_docstrings=True, env_prefix=PREFIX, env_ignore_empty=True
    )

    address: CliPositionalArg[str] = "localhost:50051"
    """Where it listens, host:port."""
    tls: CliToggleFlag[bool] = False
    """Encrypt, and check the server's certificate."""
    ca: Path | None = None
    """File of the authorities to trust (PEM). Default: gRPC's own."""
    certificate: Path | None = None
    """File of a certificate to show to the server (PEM)."""
    key: Path | None = None
    """File of the key to it (PEM)."""
    server_name: str | None = None
    """Name in the server's certificate, where it is not that of ADDRESS."""
    token_file: Path | None = None
    """File of the bearer token to send."""
    timeout: float = Field(default=5.0, gt=0)
    """Seconds to wait for the answer."""


def _file(flags: Mapping[str, Any], variables: Mapping[str, Any]) -> Any:  # noqa: ANN401  (of every type)
    """The file of options that flags or variables name."""
    return flags.get("config") or variables.get("config")


class _File(TomlConfigSettingsSource):
    """A file of options, and what names it."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path, named: str) -> None:
        try:
            super().__init__(settings_cls, toml_file=path)
            path.open().close()
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror} ({named})") from None
        except ValueError as error:
            raise SettingsError(f"{path} is no TOML: {error} ({named})") from None
        # It would name another file, which nobody reads.
        known = settings_cls.model_fields.keys() - {"config"}
        for name in self.toml_data:
            if name not in known:
                close = next(iter(get_close_matches(name, known, n=1)), None)
                advice = f"; did you mean {close}?" if close else ""
                raise SettingsError(f"{path} has the unknown option {shown(name)}{advice}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"


TOKEN_FILES = {"serve": ("--token-file", "--tokens-file")} | dict.fromkeys(
    ("health", "info", "bench"), ("--tokens-file", "--token-file")
)
"""For a subcommand, the name that another one has for its option, and its own: a server takes several tokens, a client
has one, and either name is understood."""


def unknown_variables() -> dict[str, str | None]:
    """Variables of the environment that begin like settings but are none, each with the closest setting."""
    known = [f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, *Target.model_fields)]
    unknown = [name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known]
    return {name: next(iter(get_close_matches(name.upper(), known, n=1)), None) for name in unknown}
