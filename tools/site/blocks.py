"""The code blocks of a page, run one after another as its reader would run them.

A page has one namespace and one folder. A block of ``text`` is what the block before it prints; blocks of JSON, YAML,
TOML and PromQL are such. A server that a page starts ends with the page; it listens at a free port, and its address in
further blocks, such as ``localhost:50051``, means that one. Comments of sybil's set things up that a reader has
(``invisible-code-block: python``), and leave out blocks that need what a test has not (``skip: next``).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml
from sybil import Document, Example, Region
from sybil.evaluators.python import pad
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

PORT = "50051"
"""Where a server listens that is told no port."""


_ADDRESS = re.compile(r"(\b(?:localhost|127\.0\.0\.1):)(\d+)")
_SERVE = re.compile(r"([A-Z_]+=\S+ )*gradwire serve\b")
_SERVING = re.compile(r"gradwire serving on \S+:(\d+),")
_FENCES = FencedCodeBlockLexer(r"[^\n]*")
_HIDDEN = DirectiveInHTMLCommentLexer(
    "invisible-code-block", r"\w+", mapping={"arguments": "language", "source": "source"}
)


def sections(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Language and code of each block, by the heading that it stands below."""
    document = Document.parse(str(path))
    found: dict[str, list[tuple[str, str]]] = {}
    for region in _FENCES(document):
        heading = document.text[: region.start].rpartition("\n## ")[2].partition("\n")[0]
        found.setdefault(heading, []).append((region.lexemes["language"], str(region.lexemes["source"])))
    return found


class Page:
    """A page whose blocks run in a folder; use it in a ``with`` block."""

    def __init__(self, path: Path, folder: Path, names: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        self._printed: str | None = None
        self._ports: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        self._document = Document.parse(str(path), self._blocks, SkipParser())
        self._document.namespace.update({"__name__": "__main__", **(names or {})})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> dict[str, Any]:
        """Run every block; returns the names that Python has in the end.

        Raises:
            SybilFailure: A block prints something else than the page says, fails, or is of an unknown language.
        """
        with contextlib.chdir(self._folder):
            for example in self._document.examples():
                example.evaluate()
        return self._document.namespace

    def _blocks(self, document: Document) -> Iterable[Region]:
        for lexer in (_FENCES, _HIDDEN):
            for region in lexer(document):
                region.parsed = region.lexemes["source"]
                region.evaluator = self._runner(region.lexemes["language"])
                yield region

    def _runner(self, language: str) -> Callable[[Example], str | None]:
        runners: dict[str, Callable[[Example], str | None]] = {
            "python": self._python,
            "sh": self._sh,
            "text": self._text,
            "promql": self._promql,
            "json": partial(_parsed, json.loads),
            "toml": partial(_parsed, tomllib.loads),
            "yaml": partial(_parsed, yaml.safe_load),
        }
        return runners.get(language) or (lambda _: f"nothing runs a block of {language or 'no language'}")

    def _code(self, example: Example) -> str:
        return _ADDRESS.sub(lambda found: found[1] + self._ports.get(found[2], found[2]), str(example.parsed))

    def _python(self, example: Example) -> None:
        printed = io.StringIO()
        source = pad(self._code(example), example.line + example.parsed.line_offset)
        with contextlib.redirect_stdout(printed):
            exec(compile(source, example.path, "exec", dont_inherit=True), example.namespace)  # noqa: S102  (it is ours)
        self._printed = printed.getvalue()

    def _sh(self, example: Example) -> str | None:
        before: list[str] = []
        for line in self._code(example).splitlines():
            if _SERVE.match(line) and "--check" not in line:
                # Started when what stands before it is done.
                if before and (failed := self._shell(before)):
                    return failed
                before = []
                self._serve(line)
            else:
                before.append(line)
        return self._shell(before)

    def _shell(self, lines: Sequence[str]) -> str | None:
        done = subprocess.run(  # noqa: S603  (as above)
            ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        self._printed = done.stdout
        return f"it ends with {done.returncode}:\n{done.stdout}{done.stderr}" if done.returncode else None

    def _serve(self, line: str) -> None:
        """Start a server; its first line says where it listens."""
        port = found[1] if (found := re.search(r"--port (\d+)", line)) else PORT
        server = subprocess.Popen(  # noqa: S603  (as above)
            ["/bin/bash", "-c", f"{line.rstrip('& ')} --port=0 --metrics-port=0"],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._stack.enter_context(server)
        self._stack.callback(server.terminate)
        said = []
        for printed in server.stdout or ():
            said.append(printed)
            if found := _SERVING.match(printed):
                self._ports[port] = found[1]
                return
        raise RuntimeError(f"no server:\n{''.join(said)}")

    def _promql(self, example: Example) -> str | None:
        rule = {"record": "page:query", "expr": str(example.parsed)}
        Path("query.yaml").write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": [rule]}]}))
        return self._shell(["promtool check rules query.yaml"])

    def _text(self, example: Example) -> str | None:
        if self._printed is None:
            return "no block before it prints anything"
        expected, found = (text.strip() for text in (self._code(example), self._printed))
        self._printed = None
        return None if found == expected else f"it prints\n{found}\n\nnot\n{expected}"


def _parsed(parse: Callable[[str], object], example: Example) -> None:
    parse(example.parsed)


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
