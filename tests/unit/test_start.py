"""What a server needs to start: certificates and tokens that can be used, and encryption where others listen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from pydantic_settings import SettingsError

from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.configuration.settings import Settings, StartError
from gradwire_server.service.security.tls import credentials
from gradwire_server.service.security.tokens import Tokens
from tests.pem import pair

AUTHORITY = trustme.CA()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files of which not every pair can be used."""
    first, second = pair(tmp_path / "first", AUTHORITY), pair(tmp_path / "second", AUTHORITY)
    expired = pair(tmp_path / "expired", AUTHORITY, days=-1)
    texts = {"none": "# no token\n", "spaces": "fine\nnot fine\n", "tokens": "token\n", "garbage": "garbage"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {
        **{name: tmp_path / name for name in (*texts, "absent")},
        "cert": first.certificate,
        "key": first.key,
        "other_key": second.key,
        "expired": expired.certificate,
        "expired_key": expired.key,
    }


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--tls-cert={cert}", ["--tls-cert", "--tls-key", "both"]),
        ("--tls-key={key}", ["--tls-cert", "both"]),
        ("--tls-client-ca={cert}", ["--tls-cert", "both"]),
        ("--tls-cert={absent} --tls-key={key}", ["cannot read {absent} (--tls-cert): No such file"]),
        ("--tls-cert={cert} --tls-key={absent}", ["{absent} (--tls-key): No such file"]),
        ("--tls-cert={garbage} --tls-key={key}", ["{garbage} (--tls-cert) holds no certificate"]),
        ("--tls-cert={cert} --tls-key={garbage}", ["{garbage} (--tls-key) holds no private key"]),
        ("--tls-cert={cert} --tls-key={other_key}", ["{other_key} (--tls-key) does not fit", "{cert} (--tls-cert)"]),
        ("--tls-cert={expired} --tls-key={expired_key}", ["{expired} (--tls-cert) expired at"]),
        ("--tls-cert={cert} --tls-key={key} --tls-client-ca={garbage}", ["{garbage} (--tls-client-ca) holds no cert"]),
        ("--tokens-file={absent}", ["{absent} (--tokens-file): No such file"]),
        ("--tokens-file={none}", ["{none} (--tokens-file) holds no token"]),
        ("--tokens-file={spaces}", ["line 2 of {spaces} (--tokens-file)", "without spaces"]),
        ("--host=192.0.2.1", ["192.0.2.1", "--tls-cert", "--insecure", "GRADWIRE_INSECURE=true"]),
        ("--host=:: --tokens-file={tokens}", ["tokens too", "--tls-cert", "--insecure"]),
    ],
)
def test_a_server_that_cannot_be_safe_does_not_start(files: dict[str, Path], flags: str, words: list[str]) -> None:
    given = [flag[2:].split("=") for flag in flags.format(**files).split()]
    options: Any = {name.replace("-", "_"): value for name, value in given}
    settings = Settings(**options)
    with pytest.raises(StartError) as raised:
        _start(settings)
    message = str(raised.value)
    expected = [word.format(**files) for word in words]
    assert [word for word in expected if word not in message] == [], message
    assert "\n" not in message
    assert "not fine" not in message


def _start(settings: Settings) -> None:
    credentials(settings)
    if settings.tokens_file is not None:
        Tokens(settings.tokens_file)


def test_an_encrypted_key_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(files["key"].read_bytes(), None)
    encrypted = tmp_path / "encrypted"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(StartError, match=rf"the key in {encrypted} \(--tls-key\) is encrypted"):
        credentials(Settings(tls_cert=files["cert"], tls_key=encrypted))


@pytest.mark.parametrize("name", list(ServiceLimits.model_fields))
def test_no_limit_is_larger_than_can_be_told(name: str) -> None:
    options: Any = {name: str(2**63)}
    with pytest.raises(SettingsError, match=rf"^--{name.replace('_', '-')}: Input should be less than .*\d; found '9"):
        Settings(**options)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_is_served_in_plaintext(host: str) -> None:
    assert credentials(Settings(host=host)) is None


@pytest.mark.parametrize(
    "threads",
    [
        "from gradwire_server.configuration.settings import Settings; print(Settings().threads_of_worker)",
        "from gradwire_server.engine import of_process; print(of_process().count)",
    ],
)
def test_there_are_no_more_threads_than_cores_that_the_process_may_use(threads: str) -> None:
    code = f"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); {threads}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
