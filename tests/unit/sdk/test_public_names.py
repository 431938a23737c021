"""What ``import gradwire`` gives, and that it stays light."""

from __future__ import annotations

import inspect
import pydoc
import re
import subprocess
import sys

import pytest

import gradwire as gw

PUBLIC = [name for name in gw.__all__ if inspect.isclass(getattr(gw, name)) or inspect.isfunction(getattr(gw, name))]


def test_every_name_is_there() -> None:
    assert set(PUBLIC) == set(gw.__all__)
    assert len(set(gw.__all__)) == len(gw.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_thing_has_a_docstring(name: str) -> None:
    thing = getattr(gw, name)
    assert thing.__doc__
    if inspect.isclass(thing):
        members = inspect.getmembers(thing, inspect.isfunction)
        assert [n for n, member in members if not n.startswith("_") and not inspect.getdoc(member)] == []


def help_of(thing: object) -> str:
    """What ``help`` prints, without overstriking, which makes letters bold."""
    return re.sub(r".\x08", "", pydoc.render_doc(thing))


def test_the_help_says_what_is_differentiated() -> None:
    said = help_of(gw.Client.value_and_grad)
    for words in (
        "value_and_grad(self, loss",
        "as ``jax.value_and_grad`` does",
        "first positional argument",
        "per_example",
    ):
        assert words in said
    assert "nested like the first positional" in help_of(gw.ValueAndGrad)


def test_importing_it_loads_neither_the_server_nor_pictures() -> None:
    code = "import sys, gradwire; print([m for m in ('gradwire_server', 'matplotlib', 'igraph') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
