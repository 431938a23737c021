"""What is said where a library is missing that an extra of the package brings."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "library", "extra"),
    [
        ("import gradwire; gradwire.from_onnx", "onnx", "onnx"),
        ("from gradwire import from_jax", "jax", "jax"),
        ("import gradwire.jax", "jax", "jax"),
        ("import gradwire.torch", "torch", "torch"),
        ("import gradwire.torch", "gradwire_imports", "torch"),
        ("import gradwire.openmdao", "openmdao", "openmdao"),
        ("import gradwire.ray", "ray", "ray"),
        ("import gradwire.ray", "gradwire_server", "ray"),
        ("import gradwire.dask", "dask", "dask"),
        ("import gradwire.dask", "gradwire_server", "dask"),
    ],
)
def test_a_library_that_is_missing_is_told_with_what_brings_it(statement: str, library: str, extra: str) -> None:
    # As if it were not installed.
    code = f"import sys; sys.modules[{library!r}] = None; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"ModuleNotFoundError: there is no {library}")
    assert told.endswith(f": pip install 'gradwire[{extra}]'")
