"""Settings of the server: the one place that reads the environment."""

from __future__ import annotations

import ipaddress
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, CliToggleFlag, SettingsConfigDict

from gradwire_server.service.limits import ServiceLimits

PREFIX = "GRADWIRE_"


class StartError(Exception):
    """Why the server cannot start, in a line for the operator."""


class Settings(ServiceLimits, BaseSettings):
    """Serve on this machine. Every flag may also be given in the environment, as GRADWIRE_PORT for --port."""

    model_config = SettingsConfigDict(
        frozen=True, use_attribute_docstrings=True, env_prefix=PREFIX, env_ignore_empty=True, extra="forbid"
    )

    host: str = "127.0.0.1"
    """Address to listen on. Other machines reach the server only if it is another one than the default, such as
    0.0.0.0; that needs TLS, or --insecure."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the first line of the output tells."""
    metrics_host: str | None = None
    """Address on which Prometheus finds the metrics, and orchestrators the probes. Default: that of --host."""
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    """Port of /metrics, /livez and /readyz, in plaintext and without tokens; 0 takes a free one."""
    tls_cert: Path | None = None
    """File of the server's certificate, with those between it and its authority (PEM). This file and those of the next
    three options are read again when they change: no restart is needed."""
    tls_key: Path | None = None
    """File of the key to it, without a passphrase (PEM)."""
    tls_client_ca: Path | None = None
    """File of the authorities of clients (PEM): only clients with a certificate of theirs get a connection."""
    tokens_file: Path | None = None
    """File of bearer tokens, one a line, and comments after #: every call needs one of them, but for health."""
    insecure: CliToggleFlag[bool] = False
    """Listen in plaintext also where other machines reach it: for networks that encrypt by themselves."""
    workers: int = Field(default=1, gt=0, le=1024)
    """Processes that share the port. More than one is for many small requests: what is Python in a request runs on
    one core in each process. Limits hold for each of them, and so does its memory of registered graphs."""
    threads: int | None = Field(default=None, gt=0)
    """Threads that compute, in each worker. Default: one for each core, shared among the workers."""
    grace: float = Field(default=30.0, ge=0)
    """Seconds that work in flight has to finish when the server is told to stop."""
    announce: float = Field(default=0.0, ge=0)
    """Seconds that a server told to stop still takes new calls while its health says NOT_SERVING, so that load
    balancers can turn away from it first."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of what is logged, to stderr: debug has a line for each call, info and warning one for each that
    fails."""
    log_format: Literal["text", "json"] | None = None
    """Form of the lines. Default: text on a terminal, JSON elsewhere."""

    @property
    def threads_of_worker(self) -> int:
        """Threads that compute in each process."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.workers)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unknown_variables() -> dict[str, str | None]:
    """Variables of the environment that begin like settings but are none, each with the closest setting."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    unknown = [name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known]
    return {name: next(iter(get_close_matches(name.upper(), known, n=1)), None) for name in unknown}
