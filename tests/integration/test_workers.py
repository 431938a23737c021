"""Several processes on one port, as a client, an operator and Prometheus see them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
import psutil
import pytest

import gradwire as gw
from gradwire_server.service.process.forkserver import FOLDER
from gradwire_server.version import VERSION
from tests.integration.server_process import DEADLINE, ServerProcess, beginning, compiling, listening
from tests.integration.test_lifecycle import gradwire
from tests.integration.test_metrics import LABELS, PROMTOOL, series
from tests.integration.test_probes import ask
from tests.integration.waiting import eventually
from tests.losses import hinge, hinge_by_hand, products, sum_of_squares

WORKERS = ("--workers=2",)
CALLS = f"grpc_server_started_total{{{LABELS}}}"


def fork_server(server: ServerProcess) -> psutil.Process:
    [found] = [child for child in children(server.process) if child.name() == "gradwire-forks"]
    return found


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    return [child for child in children(server.process) if re.fullmatch(r"gradwire-\d+", child.name())]


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.pid).children()
    return found


def serving(server: ServerProcess, count: int, restarts: int) -> bool:
    found = series(server)
    return (found["gradwire_workers_serving"], found["gradwire_worker_restarts_total"]) == (count, restarts)


def running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


async def test_calls_and_streams_find_their_graph_whichever_worker_they_reach() -> None:
    case = hinge(examples=9)
    losses, gradients = hinge_by_hand(**case.arrays)
    with ServerProcess(flags=WORKERS) as server:
        for _ in range(8):
            with gw.connect(server.address) as client, client.stream(case.loss) as stream:
                assert client.info().workers == 2
                for call in (client.value_and_grad(case.loss), stream):
                    value, found = call(**case.arrays)
                    np.testing.assert_allclose(value, losses.mean(), rtol=1e-12)
                    np.testing.assert_allclose(found["w"], gradients.mean(axis=0), rtol=1e-12)
        counted = series(server)
        assert counted[CALLS] == 8
        assert 2 <= counted["gradwire_programs_cached"] + counted["gradwire_compile_seconds_count"] <= 4
        assert counted["gradwire_requests_in_flight"] == 0
        assert counted[f'gradwire_build_info{{version="{VERSION}"}}'] == 1
        assert server.stop() == 0


def test_memory_and_files_are_those_of_each_process() -> None:
    with ServerProcess(flags=WORKERS) as server:
        found = series(server)
        for name in ("gradwire", "gradwire-forks", "gradwire-0", "gradwire-1"):
            assert found[f'process_resident_memory_bytes{{process="{name}"}}'] > 1 << 20
            assert found[f'process_open_fds{{process="{name}"}}'] > 0


def test_promtool_finds_nothing_to_say_of_the_sums_over_workers() -> None:
    with ServerProcess(flags=WORKERS) as server:
        done = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=server.metrics(), capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_of_metrics_that_is_still_empty_is_none_yet() -> None:
    with ServerProcess(flags=WORKERS) as server:
        (metrics_folder(fork_server(server)) / "2.numbers").touch()
        assert series(server)["gradwire_workers_serving"] == 2


async def test_a_worker_that_dies_is_replaced_and_what_was_counted_stays() -> None:
    case = sum_of_squares(3)
    with ServerProcess(flags=WORKERS) as server, gw.connect(server.address) as client:
        value_and_grad = client.value_and_grad(case.loss)
        expected, _ = value_and_grad(**case.arrays)
        for restarts, worker in enumerate(workers_of(server), 1):
            worker.kill()
            assert value_and_grad(**case.arrays)[0] == expected
            await eventually(partial(serving, server, 2, restarts))
        # The call may have reached the worker that was killed, and been made again.
        assert series(server)[CALLS] >= 3
        assert server.stop() == 0
        assert server.log.count("another one takes its place") == 2


async def test_a_worker_is_replaced_also_where_the_folder_of_the_metrics_is_gone() -> None:
    with ServerProcess(flags=WORKERS) as server:
        rmtree(metrics_folder(fork_server(server)))
        workers_of(server)[0].kill()
        await eventually(partial(serving, server, 2, 1))
        assert CALLS in series(server)
        assert server.stop() == 0


async def test_a_worker_that_stands_still_is_replaced() -> None:
    case = sum_of_squares(3)
    flags = (*WORKERS, "--grace=1")
    server = ServerProcess(flags=flags, module="tests.integration.impatient_server")
    with server, gw.connect(server.address) as client:
        stopped, other = workers_of(server)
        stopped.suspend()
        await eventually(partial(serving, server, 2, 1))
        assert [worker.pid for worker in workers_of(server) if worker.pid in (stopped.pid, other.pid)] == [other.pid]
        assert client.value_and_grad(case.loss)(**case.arrays)[0] == np.sum(case.arrays["w"] ** 2)
        assert server.stop() == 0
        assert "worker stands still and is killed" in server.log


async def test_what_forks_workers_and_stands_still_is_replaced() -> None:
    server = ServerProcess(flags=WORKERS, module="tests.integration.impatient_server")
    with server:
        first, lost = fork_server(server), workers_of(server)[0]
        first.suspend()
        lost.kill()
        await eventually(partial(serving, server, 2, 1))
        assert fork_server(server) != first
        assert server.stop() == 0
        assert "the process that forks workers stands still and is killed" in server.log


async def test_workers_live_on_without_the_process_that_forked_them_and_are_still_replaced() -> None:
    case = sum_of_squares(3)
    with ServerProcess(flags=WORKERS) as server, gw.connect(server.address) as client:
        value_and_grad = client.value_and_grad(case.loss)
        expected, _ = value_and_grad(**case.arrays)
        forked, first = workers_of(server), fork_server(server)
        # A fork would leave other threads, and the locks that they hold, behind.
        assert first.num_threads() == 1
        first.kill()
        await eventually(lambda: not running(first))
        assert value_and_grad(**case.arrays)[0] == expected
        assert all(map(running, forked))
        forked[0].kill()
        await eventually(partial(serving, server, 2, 1))
        assert value_and_grad(**case.arrays)[0] == expected
        # Nobody else would learn how it ended, or take it out of the list of processes.
        assert '"ended": "SIGKILL", "pause": 0, "event": "worker ended' in server.log
        assert forked[0] not in children(server.process)
        assert server.stop() == 0
        assert "the process that forks workers ended" in server.log


async def test_what_takes_the_place_of_another_has_the_settings_of_the_start(tmp_path: Path) -> None:
    file = tmp_path / "gradwire.toml"
    file.write_text("max_nodes = 7")
    with ServerProcess(flags=(*WORKERS, f"--config={file}")) as server:
        file.write_text("no TOML")
        for process in (fork_server(server), *workers_of(server)):
            process.kill()
        await eventually(partial(serving, server, 2, 2))
        with gw.connect(server.address) as client:
            assert client.info().limits["max_nodes"] == 7


def broken(folder: Path, module: str, code: str) -> dict[str, str]:
    """An environment in which a package that only workers need is another one."""
    (folder / f"{module}.py").write_text(code)
    return {**os.environ, "PYTHONPATH": str(folder)}


async def test_workers_cannot_be_forked_again_and_again_without_a_pause(tmp_path: Path) -> None:
    with ServerProcess(flags=WORKERS, environment=broken(tmp_path, "unused", "")) as server:
        # As long as one that served for a while, were it a worker.
        broken(tmp_path, "numba", "import os, time; time.sleep(1.1); os._exit(3)")
        fork_server(server).kill()
        await eventually(lambda: '"ended": "exit code 3", "pause": 0.5' in server.log)
        (tmp_path / "numba.py").unlink()
        workers_of(server)[0].kill()
        await eventually(partial(serving, server, 2, 1))


async def test_a_worker_that_cannot_be_asked_for_is_asked_for_again() -> None:
    with ServerProcess(flags=(*WORKERS, "--max-arrival=inf")) as server:
        supervisor = psutil.Process(server.process.pid)
        most = supervisor.rlimit(psutil.RLIMIT_NOFILE)
        supervisor.rlimit(psutil.RLIMIT_NOFILE, (3, most[1]))
        workers_of(server)[0].kill()
        await eventually(lambda: "a worker could not be asked for" in server.log)
        supervisor.rlimit(psutil.RLIMIT_NOFILE, most)
        await eventually(lambda: series(server)["gradwire_workers_serving"] == 2)
        assert server.stop() == 0


def test_a_worker_that_served_is_replaced_also_while_others_start(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    code = f"""
import time; from pathlib import Path
while Path("/proc/self/comm").read_text() == "gradwire-1\\n" and Path({str(hold)!r}).exists():
    time.sleep(0.01)
raise ImportError
"""
    environment = broken(tmp_path, "uvloop", code)
    with beginning(*WORKERS, environment=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = f"127.0.0.1:{listening(process)}"
        while gradwire("health", address).returncode:
            assert process.poll() is None
        [first] = [child for child in children(process) if child.name() == "gradwire-0"]
        first.kill()
        assert "another one takes its place" in process.stderr.readline()
        hold.unlink()
        assert "gradwire serving on" in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


async def test_workers_finish_their_work_when_the_parent_is_told_to_stop() -> None:
    case = products(2000)
    with ServerProcess(flags=WORKERS) as server, gw.connect(server.address, max_attempts=1) as client:
        client.register(case.loss)
        await eventually(lambda: series(server)["gradwire_requests_in_flight"] == 0)
        with client.stream(case.loss) as stream:
            call = stream.submit(case.arrays)
            await eventually(lambda: series(server)["gradwire_requests_in_flight"] == 1)
            server.process.terminate()
            assert call.result().loss == 2000.0**3
        assert server.wait() == 0
        with pytest.raises(gw.UnavailableError):
            client.info()


async def test_workers_end_with_a_parent_that_is_killed() -> None:
    with ServerProcess(flags=WORKERS) as server:
        processes, folder = children(server.process), metrics_folder(fork_server(server))
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        await eventually(lambda: not any(map(running, processes)))
        assert not folder.exists()
        # The port is free again.
        server.start()
        assert server.stop() == 0


def metrics_folder(process: psutil.Process) -> Path:
    return Path(process.environ()[FOLDER])


async def test_what_forks_workers_leaves_nothing_of_a_parent_that_is_killed() -> None:
    with ServerProcess(flags=WORKERS) as server:
        workers, last = workers_of(server), fork_server(server)
        folder = metrics_folder(last)
        server.process.send_signal(signal.SIGSTOP)
        for worker in workers:
            worker.kill()
        await eventually(lambda: not any(map(running, workers)))
        assert folder.exists()
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        await eventually(lambda: not running(last))
        assert not folder.exists()


async def test_what_compiles_for_workers_ends_at_once_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with compiling(tmp_path, *WORKERS) as process:
        [last] = children(process)
        folder = metrics_folder(last)
    # Long before it has compiled all.
    await eventually(lambda: not running(last))
    assert not folder.exists()


async def test_probes_speak_for_all_workers() -> None:
    with ServerProcess(flags=(*WORKERS, "--announce=30")) as server:
        assert ask(server.metrics_port, "/readyz") == (200, "ok\n")
        server.process.terminate()
        await eventually(lambda: ask(server.metrics_port, "/readyz") == (503, "no\n"))
        assert ask(server.metrics_port, "/livez") == (200, "ok\n")
        with gw.connect(server.address) as client:
            assert client.info().workers == 2
        server.process.kill()
        server.wait()


def test_servers_do_not_share_a_port_though_workers_do() -> None:
    with ServerProcess(flags=WORKERS) as server:
        for flags in ((), WORKERS):
            command = [sys.executable, "-m", "gradwire_server", "serve", f"--port={server.port}", "--metrics-port=0"]
            done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"cannot listen on 127.0.0.1:{server.port}: another server is running there" in done.stderr


def test_workers_for_which_kernels_are_compiled_are_not_waited_for_at_the_end(tmp_path: Path) -> None:
    with compiling(tmp_path, *WORKERS) as process:
        process.terminate()
        ready, log = process.communicate(timeout=DEADLINE)
        assert (ready, process.returncode) == ("", 0)
        assert '"event": "stopped"' in log


def failed_start(environment: dict[str, str], *python: str) -> str:
    """What several workers that cannot start say of it at last."""
    command = [
        sys.executable,
        *(python or ("-m", "gradwire_server")),
        "serve",
        *WORKERS,
        "--port=0",
        "--metrics-port=0",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    # What did not serve has nothing to drain.
    assert "draining" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_worker_that_does_not_start_ends_the_server_with_the_cause(tmp_path: Path) -> None:
    said = failed_start({**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"})
    assert said.startswith("gradwire: protobuf runs in pure Python here")
    said = failed_start(broken(tmp_path, "uvloop", "import os; os.kill(os.getpid(), 9)"))
    assert said == "gradwire: worker 0 did not start; it ended with SIGKILL"


def test_a_worker_that_cannot_be_asked_for_ends_the_start_with_the_cause() -> None:
    # Enough for a worker, and for less than that number of pipes.
    with beginning("--workers=100", line='ulimit -n 90; exec "$@"') as process:
        _, log = process.communicate(timeout=DEADLINE)
    assert log.splitlines()[-1] == "gradwire: a worker could not be asked for: Too many open files"


def test_what_forks_workers_and_does_not_start_ends_the_server_with_the_cause(tmp_path: Path) -> None:
    no_worker = "gradwire: no worker started, since the process that forks them ended: "
    assert failed_start(broken(tmp_path, "numba", "import nothing")) == (
        no_worker + "ModuleNotFoundError: No module named 'nothing'"
    )
    assert failed_start(broken(tmp_path, "numba", "import os; os.kill(os.getpid(), 9)")) == no_worker + "SIGKILL"


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    code = (
        f"import os, tempfile; os.access, tempfile.tempdir = lambda *_: False, '{tmp_path}/absent'\n"
        "from gradwire_server.__main__ import main; main()"
    )
    said = failed_start({**os.environ}, "-c", code)
    assert said == "gradwire: several workers need a folder for their metrics: No such file or directory (TMPDIR)"


def test_where_memory_has_no_room_for_metrics_they_are_elsewhere(tmp_path: Path) -> None:
    code = (
        "import shutil; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1 << 26, (1 << 26) - 4096, 4096)\n"
        "from gradwire_server.__main__ import main; main()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "CODE": code}
    with beginning(
        *WORKERS, line='python=$1; shift 3; exec $python -c "$CODE" "$@"', environment=environment
    ) as process:
        assert process.stdout is not None
        assert "gradwire serving on" in process.stdout.readline()
        assert len(list(tmp_path.glob("gradwire-*/[01].numbers"))) == 2
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_working_folder_is_nothing_to_workers(tmp_path: Path) -> None:
    for module in ("numpy", "token"):
        (tmp_path / f"{module}.py").write_text("import nothing")
    # By its own name: with -m Python looks for modules there.
    line = f'cd {tmp_path}; shift 3; exec {Path(sys.executable).parent / "gradwire"} "$@"'
    with beginning(*WORKERS, line=line) as process:
        assert process.stdout is not None
        assert "gradwire serving on" in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
