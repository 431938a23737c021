"""Machine code that is kept: what it is good for, where it is put, and that a bad place for it does no harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from numba import config

from gradwire_server.engine.machine.__main__ import main
from gradwire_server.engine.machine.warming import warm

ROOT = Path(__file__).parents[3]

KERNEL = """
from kernel_functions import grow
from numba import njit

from gradwire_server.engine.compiled import kept


@kept
@njit
def kernel(x):
    return grow(x)
"""

FUNCTIONS = """
from numba import njit


@njit(forceinline=True)
def grow(x):
    return x + 1
"""


class Tree:
    """The sources of a small kernel, and a user's caches beside them."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path, self.user, self._patch = path / "sources", path / "user", patch
        self.cache = self.path / "__pycache__"
        self.path.mkdir(parents=True)
        (self.path / "tiny_kernel.py").write_text(KERNEL)
        (self.path / "kernel_functions.py").write_text(FUNCTIONS)

    def run(self) -> str:
        """What the kernel makes of 1, in modules that are new each time, as in a process of its own."""
        with self._patch.context() as patch:
            patch.syspath_prepend(self.path)
            patch.setattr(sys, "dont_write_bytecode", True)
            kernel = import_module("tiny_kernel").kernel
            for name in ("tiny_kernel", "kernel_functions"):
                del sys.modules[name]
        return f"{kernel(1)} {'compiled' if kernel.stats.cache_misses else 'loaded'}"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    tree = Tree(tmp_path, monkeypatch)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr("numba.misc.appdirs.AppDirs.user_cache_dir", str(tree.user))
    return tree


def kept(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}


def test_a_kernel_is_loaded_from_beside_its_sources_until_one_of_them_changes(tree: Tree) -> None:
    assert tree.run() == "2 compiled"
    before = kept(tree.cache)
    for path in (tree.cache, *tree.cache.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # Nor does it try to write: root could.
    assert tree.run() == "2 loaded"
    assert kept(tree.cache) == before
    tree.cache.chmod(0o755)
    (tree.path / "kernel_functions.py").write_text(FUNCTIONS.replace("1", "2"))
    assert tree.run() == "3 compiled"
    assert tree.run() == "3 loaded"


def test_a_copy_takes_its_cache_along_whatever_its_times(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.run()
    copy = Tree(tmp_path / "copy", monkeypatch)
    shutil.copytree(tree.cache, copy.cache)
    for path in copy.path.glob("*.py"):
        os.utime(path, (0, 0))
    assert copy.run() == "2 loaded"


def test_where_the_sources_are_read_only_the_user_s_caches_have_it(tree: Tree) -> None:
    tree.cache.touch()  # not a folder: root, too, can write nothing there
    assert tree.run() == "2 compiled"
    assert kept(tree.user)
    assert tree.run() == "2 loaded"


@pytest.mark.parametrize("user", ["", "~/.cache"])
def test_where_nothing_can_be_written_it_is_compiled_for_this_process(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    tree.cache.touch()
    tree.user.touch()
    monkeypatch.chdir(tmp_path)
    if user:
        monkeypatch.setattr("numba.misc.appdirs.AppDirs.user_cache_dir", user)
    assert tree.run() == "2 compiled"
    assert not kept(tmp_path)


def test_a_damaged_cache_does_no_harm(tree: Tree) -> None:
    tree.run()
    for path in tree.cache.glob("*.nbi"):
        path.write_bytes(b"")
    assert tree.run() == "2 compiled"
    assert tree.run() == "2 loaded"


def test_sources_that_cannot_be_read_leave_it_without_a_cache(tree: Tree) -> None:
    (tree.path / "gone.py").symlink_to("nowhere")
    assert tree.run() == "2 compiled"
    assert not kept(tree.path.parent)


def test_a_folder_that_numba_is_told_comes_first(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "told"))
    assert tree.run() == "2 compiled"
    assert kept(tmp_path / "told")
    assert not tree.cache.exists()


def test_numba_s_setting_for_locators_is_not_in_the_way(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", "IPythonCacheLocator")
    assert tree.run() == "2 compiled"
    assert tree.run() == "2 loaded"


CALLS = """
import numpy as np
from numba.core import event
from numba.core.event import RecordingListener
from gradwire.v1.gradient_service_pb2 import RegisterGraphRequest
from gradwire_server.codec import warming
from gradwire_server.codec.counting import count
from gradwire_server.engine.explain.trace import trace
from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.machine.warming import warm
from tests.unit.engine.building import Builder, evaluate
from tests.unit.engine.swarms import columns
warm(further=warming.warm)
listener = RecordingListener()
with event.install_listener("numba:compile", listener):
    builder = Builder()
    w, x = builder.parameter("w", (2,)), builder.input("x", (2,), per_example=True)
    product = builder.op("matmul", builder.parameter("m", (3, 2)), builder.op("mul", builder.op("exp", w), x))
    packed = columns([("power", [0], 3.0), ("mul", [1, 2]), ("add", [3, 4, 3])], [4, 5])
    swarm = builder.op("scalars", product, **packed)
    taken = builder.op("take", swarm, builder.input("i", (3,), per_example=True, integer=True))
    builder.op("logsumexp", builder.op("max", taken, builder.op("reduce_max", product)))
    program = builder.program()
    for dtype in (np.float64, np.float32):
        for reduction in Reduction:
            for number in (1.0, np.nan):
                arrays = {"w": [0, number], "m": np.ones((3, 2)), "x": np.ones((40, 2)), "i": np.ones((40, 3), int)}
                evaluate(program, arrays, dtype, reduction=reduction, wrt=("w", "m", "x"))
        one = {"w": np.ones(2), "m": np.ones((3, 2)), "x": np.ones(2), "i": np.ones(3, int)}
        trace(program.checked, {n: a if n == "i" else a.astype(dtype) for n, a in one.items()}, np.dtype(dtype))
    count(RegisterGraphRequest, bytes(8))
print(sorted({e.data["dispatcher"].py_func.__qualname__ for _, e in listener.buffer}))
assert not warm(further=warming.warm)
"""


def test_what_is_warm_is_what_the_engine_calls() -> None:
    # In a process of its own, where nothing else has called a kernel yet.
    done = subprocess.run([sys.executable, "-c", CALLS], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


START = """
import sys
from gradwire_server.codec import warming
from gradwire_server.engine.machine.warming import warm
warm(further=warming.warm)
assert not warm(further=warming.warm)
print(sorted({"numba.np.linalg", "scipy.linalg", "scipy.special"} & sys.modules.keys()))
"""


def test_kernels_that_are_kept_are_loaded_without_what_compiles_others() -> None:
    subprocess.run([sys.executable, "-c", START], cwd=ROOT, check=True)  # compiles what another test may have left
    done = subprocess.run([sys.executable, "-c", START], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_command_says_that_nothing_is_left_to_compile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warm()
    monkeypatch.setattr(sys, "argv", ["machine"])
    main()
    assert capsys.readouterr().out == "The kernels are compiled already.\n"
