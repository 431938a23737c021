"""Who may call: certificates of servers and clients, tokens, and what is refused when a server starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import gradwire as gw
from tests.integration.raw import SERVICE, channel, refused
from tests.integration.server_process import ServerProcess
from tests.integration.test_lifecycle import gradwire
from tests.pem import Pair, authority_file, pair

AUTHORITY, OTHER = trustme.CA(), trustme.CA()
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  (of the tests)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority_file(tmp_path_factory.mktemp("ca") / "ca.pem", AUTHORITY)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, ca: Path) -> Iterator[ServerProcess]:
    """A server that asks for certificates of clients."""
    files = pair(tmp_path_factory.mktemp("server"), AUTHORITY)
    with ServerProcess(flags=(*files.of_server, f"--tls-client-ca={ca}")) as process:
        yield process


@pytest.fixture
def worker(tmp_path: Path) -> Pair:
    return pair(tmp_path / "worker", AUTHORITY, "worker")


def info(address: str, **options: Any) -> str:
    with gw.connect(address, max_attempts=1, **options) as client:
        return client.info().version


# TLS.


async def test_calls_of_every_kind_over_mutual_tls(asking: ServerProcess, ca: Path, worker: Pair) -> None:
    w = gw.parameter("w", shape=(500_000,))
    options: Any = {"tls": True, "ca": ca, **worker.of_client}
    with gw.connect(asking.address, **options) as client, client.stream(gw.sum(w)) as stream:
        assert client.value_and_grad(gw.sum(w))(w=[2.0] * 500_000)[0] == 1e6
        assert stream(w=[3.0] * 500_000)[0] == 1.5e6
    async with gw.AsyncClient(asking.address, **options) as aio:
        assert (await aio.value_and_grad(gw.sum(w))(w=[2.0] * 500_000))[0] == 1e6


def test_a_server_that_a_client_cannot_trust_is_named_with_the_cause(tmp_path: Path, ca: Path) -> None:
    files = pair(tmp_path, AUTHORITY)
    other = authority_file(tmp_path / "other.pem", OTHER)
    with ServerProcess(flags=files.of_server) as server:
        assert info(server.address, tls=True, ca=ca)
        with pytest.raises(gw.TLSError, match=r"of no authority that this client trusts \(ca=\)"):
            info(server.address, tls=True, ca=other)
        with pytest.raises(gw.TLSError, match="hold no certificates"):
            info(server.address, tls=True, ca=files.key)
        with pytest.raises(gw.UnavailableError, match="connect with tls=True"):
            info(server.address)
        pair(tmp_path, AUTHORITY, "elsewhere.example")
        with pytest.raises(gw.TLSError, match="for another name than that of the target"):
            info(server.address, tls=True, ca=ca)


def test_a_client_whose_certificate_the_server_does_not_take_is_told(
    asking: ServerProcess, tmp_path: Path, ca: Path
) -> None:
    with pytest.raises(gw.TLSError, match="a client without a certificate; connect with certificate= and key="):
        info(asking.address, tls=True, ca=ca)
    for files in (pair(tmp_path / "a", OTHER, "worker"), pair(tmp_path / "b", AUTHORITY, "worker", days=-1)):
        with pytest.raises(gw.TLSError, match=rf"the certificate in {files.certificate}: has it expired, or is it of"):
            info(asking.address, tls=True, ca=ca, **files.of_client)
    mixed = {"certificate": files.certificate, "key": pair(tmp_path / "c", AUTHORITY, "worker").key}
    with pytest.raises(gw.TLSError, match="that fit each other"):
        info(asking.address, tls=True, ca=ca, **mixed)


def test_tls_to_a_server_without_it(server: ServerProcess, ca: Path) -> None:
    with pytest.raises(gw.TLSError, match="does not speak TLS; connect without tls=True"):
        info(server.address, tls=True, ca=ca)


def test_a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not(tmp_path: Path, ca: Path) -> None:
    files = pair(tmp_path / "server", AUTHORITY)
    other = authority_file(tmp_path / "other.pem", OTHER)
    with ServerProcess(flags=files.of_server) as server, gw.connect(server.address, tls=True, ca=ca) as connected:
        assert connected.info().version
        pair(tmp_path / "server", OTHER)
        assert info(server.address, tls=True, ca=other)
        with pytest.raises(gw.TLSError, match="no authority"):
            info(server.address, tls=True, ca=ca)
        # A connection that stands is not cut off.
        assert connected.info().version
        files.certificate.write_text("half a certifi")
        assert info(server.address, tls=True, ca=other)
        assert info(server.address, tls=True, ca=other)
        files.certificate.unlink()
        assert info(server.address, tls=True, ca=other)
        pair(tmp_path / "server", AUTHORITY, days=-1)
        assert info(server.address, tls=True, ca=other)
        pair(tmp_path / "server", AUTHORITY)
        assert info(server.address, tls=True, ca=ca)
        server.stop()
        problems = [line for line in server.log.splitlines() if '"error"' in line]
        assert [str(files.certificate) in line for line in problems] == [True] * 3
        assert "no certificate in PEM" in problems[0]
        assert "No such file" in problems[1]
        assert "expired at" in problems[2]


# Tokens.


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants a token."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"# of the tests\n\nanother-token\n  {TOKEN}\n")
    with ServerProcess(flags=(f"--tokens-file={tokens}", "--log-level=debug")) as process:
        yield process


@pytest.mark.parametrize(
    "method", ["RegisterGraph", "ComputeGradients", "TraceGraph", "CheckGradients", "GetServerInfo"]
)
@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ((), "needs a token, and the call has none"),
        ((("authorization", ""),), "holds no bearer token"),
        ((("authorization", f"Basic {TOKEN}"),), "holds no bearer token"),
        ((("authorization", TOKEN),), "holds no bearer token"),
        ((("authorization", f"Bearer {TOKEN}x"),), "does not know the token"),
        ((("authorization", f"Bearer {TOKEN[:-1]}"),), "does not know the token"),
        ((("authorization", "Bearer #"),), "does not know the token"),
    ],
)
def test_no_method_is_open_without_the_token(guarded: ServerProcess, method: str, metadata: Any, words: str) -> None:
    with channel(guarded.address) as opened:
        call: Any = opened.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", metadata=metadata)
    found = refused(raised.value)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert words in found.message
    assert TOKEN[:-1] not in found.message


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens_calls_and_streams(guarded: ServerProcess, scheme: str) -> None:
    metadata = (("authorization", f"{scheme} {TOKEN}"),)
    with channel(guarded.address) as opened:
        unary: Any = opened.unary_unary(f"/{SERVICE}/GetServerInfo")
        assert unary(b"", metadata=metadata)
        stream: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        assert list(stream(iter([]), metadata=metadata)) == []


def test_streams_and_reflection_are_closed_and_health_is_open(guarded: ServerProcess) -> None:
    def code(call: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
        return refused(raised.value).code

    with channel(guarded.address) as opened:
        stream: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(opened)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        absent: Any = opened.stream_stream("/nobody/Nothing")
        for call in (stream(iter([])), reflection.ServerReflectionInfo(iter([request])), absent(iter([]))):
            assert code(call) is grpc.StatusCode.UNAUTHENTICATED
        assert list(reflection.ServerReflectionInfo(iter([request]), metadata=(("authorization", f"Bearer {TOKEN}"),)))
        health: Any = health_pb2_grpc.HealthStub(opened)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    assert 'gradwire_refused_total{reason="UNAUTHENTICATED"} 0.0' not in guarded.metrics()
    assert '"reason": "UNAUTHENTICATED"' in guarded.log


async def test_a_client_gives_a_string_a_file_or_a_function(guarded: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    w = gw.parameter("w")
    for token in (TOKEN, file, lambda: TOKEN):
        with gw.connect(guarded.address, token=token) as client, client.stream(w * w) as stream:
            assert stream(w=3.0)[0] == 9
            assert client.value_and_grad(w)(w=2.0)[0] == 2
        async with gw.AsyncClient(guarded.address, token=token) as aio:
            assert (await aio.info()).version
    with pytest.raises(gw.AuthenticationError, match="needs a token"):
        info(guarded.address)
    with gw.connect(guarded.address, token=file) as client:
        file.write_text("wrong")
        with pytest.raises(gw.AuthenticationError, match="does not know the token"):
            client.info()
        with client.stream(w) as stream, pytest.raises(gw.AuthenticationError, match="does not know the token"):
            stream(w=1.0)
        file.unlink()
        with pytest.raises(gw.UsageError, match=f"cannot read the token in {file}: No such file"):
            client.info()


def _fails() -> str:
    raise OSError("no network")


@pytest.mark.parametrize(
    ("token", "words"),
    [(_fails, "token= raised OSError"), (lambda: "", "returned is no token"), (lambda: 5, "returned is no token")],
    ids=["raises", "empty", "number"],
)
async def test_a_function_that_gives_no_token(guarded: ServerProcess, token: Any, words: str) -> None:
    with gw.connect(guarded.address, token=token) as client:
        with pytest.raises(gw.UsageError, match=words):
            client.info()
        with client.stream(gw.parameter("w")) as stream, pytest.raises(gw.UsageError, match=words):
            stream(w=1.0)
    async with gw.AsyncClient(guarded.address, token=token) as aio:
        with pytest.raises(gw.UsageError, match=words):
            await aio.info()


def test_the_tokens_follow_their_file_and_nothing_opens_the_service(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first\n")
    with ServerProcess(flags=(f"--tokens-file={tokens}",)) as server:
        assert info(server.address, token="first")  # noqa: S106  (of the test)
        tokens.write_text("second\n")
        assert info(server.address, token="second")  # noqa: S106
        for content in ("", "# none\n", "one two\n", "schl\u00fcssel\n", None):
            if content is None:
                tokens.unlink()
            else:
                tokens.write_text(content)
            for token in ("first", "second", "one", None):
                with pytest.raises(gw.AuthenticationError):
                    info(server.address, token=token)
        tokens.write_text("third\n")
        assert info(server.address, token="third")  # noqa: S106
        server.stop()
        problems = [line for line in server.log.splitlines() if '"error"' in line]
        assert [str(tokens) in line for line in problems] == [True] * 5


async def test_a_pipe_in_the_place_of_the_tokens_holds_up_nothing(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    with ServerProcess(flags=(f"--tokens-file={tokens}", "--workers=2")) as server:
        assert info(server.address, token=TOKEN)
        tokens.unlink()
        os.mkfifo(tokens)
        for token in (TOKEN, None):
            with pytest.raises(gw.AuthenticationError):
                info(server.address, token=token)
        assert gradwire("health", server.address).stdout == "SERVING\n"
        tokens.unlink()
        tokens.write_text(TOKEN)
        w = gw.parameter("w")
        with gw.connect(server.address, token=TOKEN) as client, client.stream(w) as stream:
            assert stream(w=1.0)[0] == 1
            assert client.value_and_grad(w)(w=2.0)[0] == 2
        server.stop()
        assert f"{tokens} (--tokens-file) is no regular file" in server.log


def test_the_first_call_of_every_kind_after_a_change_is_judged_by_the_new_file(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    with ServerProcess(flags=(f"--tokens-file={tokens}",)) as server, channel(server.address) as opened:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(opened)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        unary: Any = opened.unary_unary(f"/{SERVICE}/GetServerInfo")
        stream: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        absent: Any = opened.stream_stream("/nobody/Nothing")
        kinds: list[Any] = [
            lambda metadata: [unary(b"", metadata=metadata)],
            lambda metadata: list(stream(iter([b""]), metadata=metadata)),
            lambda metadata: list(reflection.ServerReflectionInfo(iter([request]), metadata=metadata)),
            lambda metadata: list(absent(iter([]), metadata=metadata)),
        ]
        codes: list[str] = []
        for number, kind in enumerate(kinds):
            known, unknown = ((("authorization", f"Bearer {TOKEN}{number}{name}"),) for name in ("known", "unknown"))
            for metadata in (unknown, known):
                # Another length each time, so that the change is seen whatever the clock of the files says.
                tokens.write_text(f"{known[0][1].removeprefix('Bearer ')}\n" + "#" * len(codes))
                try:
                    codes.append("OK" if kind(metadata) else "nothing")
                except grpc.RpcError as error:
                    codes.append(refused(error).code.name)
        refusal = "UNAUTHENTICATED"
        assert codes == [refusal, "OK", refusal, "INVALID_ARGUMENT", refusal, "OK", refusal, "UNIMPLEMENTED"]


def test_secrets_that_everybody_may_read_and_short_tokens_are_told(tmp_path: Path) -> None:
    files, tokens = pair(tmp_path, AUTHORITY), tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n# short\nshort\n0123456789abcdef\n")
    for mode in (0o644, 0o640):
        files.key.chmod(mode)
        tokens.chmod(mode)
        with ServerProcess(flags=(*files.of_server, f"--tokens-file={tokens}")) as server:
            server.stop()
            logged = [json.loads(line) for line in server.log.splitlines()]
            readable = [line["file"] for line in logged if "may read a secret" in line["event"]]
            expected = [f"{files.key} (--tls-key)", f"{tokens} (--tokens-file)"] if mode == 0o644 else []
            assert readable == expected
            [short] = [line for line in logged if "short" in line["event"]]
            assert (short["level"], short["lines"], short["file"]) == ("warning", [3], f"{tokens} (--tokens-file)")
            assert TOKEN not in server.log


def test_no_token_is_ever_logged(guarded: ServerProcess) -> None:
    info(guarded.address, token=TOKEN)
    with pytest.raises(gw.AuthenticationError):
        info(guarded.address, token="some-other-secret")  # noqa: S106
    assert "GetServerInfo" in guarded.log
    assert TOKEN not in guarded.log
    assert "some-other-secret" not in guarded.log
    assert TOKEN not in guarded.metrics()


# What is refused at the start; tests/unit/test_start.py has all of it.


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tls-cert=absent", "--tls-key=absent"], "cannot read absent (--tls-cert): No such file"),
        (["--tokens-file=/dev/null"], "/dev/null (--tokens-file) is no regular file"),
        (["--tokens-file=/"], "cannot read / (--tokens-file): Is a directory"),
        (["--tokens-file=absent"], "cannot read absent (--tokens-file): No such file"),
        (["--host=0.0.0.0"], "--insecure"),
    ],
)
def test_a_server_that_cannot_be_safe_does_not_start(flags: list[str], words: str) -> None:
    done = gradwire("serve", "--port=0", "--metrics-port=0", *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_other_machines_are_served_if_the_operator_says_so(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    flags = ("--host=0.0.0.0", "--metrics-host=127.0.0.1", "--insecure")
    with ServerProcess(flags=flags) as server:
        server.stop()
        assert "anyone who reaches this address can use the server" in server.log
    with ServerProcess(flags=(*flags, f"--tokens-file={tokens}")) as server:
        server.stop()
        assert "anyone who reaches this address" not in server.log
