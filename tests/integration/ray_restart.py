"""A program whose node goes down between two steps: it says so, joins another cluster, and goes on where it was.

Run as a process of its own, for its clusters are not those of other tests.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

HEAD = {"num_cpus": 1, "object_store_memory": 100 << 20, "no_monitor": True, "include_log_monitor": False}


def main(files: str) -> None:
    """Two steps of gradient descent on one cluster, and two on the next one."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # noqa: S108  (sockets have short paths)
        (Path(folder) / "rfc3987_syntax.py").write_text("raise ImportError")
        os.environ |= {"PYTHONPATH": folder, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        _descend(files)


def _descend(files: str) -> None:
    import numpy as np  # noqa: PLC0415
    import ray  # noqa: PLC0415

    import gradwire as gw  # noqa: PLC0415
    import gradwire.ray  # noqa: PLC0415

    def logistic(w: Any, x: Any, y: Any) -> Any:
        return gw.softplus(-y * gw.dot(w, x))

    cluster = _joined()
    step = gradwire.ray.value_and_grad(logistic, files, per_example=("x", "y"))
    w = np.zeros(4)
    losses = []
    for _ in range(2):
        loss, gradient = step(w)
        losses.append(loss)
        w = w - gradient
    for processes in cluster.head_node.all_processes.values():
        for process in processes:
            process.process.kill()
    try:
        step(w)
    except gw.UnavailableError as error:
        assert "go on from the parameters of this step" in str(error), error  # noqa: S101
    else:
        raise AssertionError("a step without a cluster")
    ray.shutdown()
    cluster = _joined()
    for _ in range(2):
        loss, gradient = step(w)
        losses.append(loss)
        w = w - gradient
    assert losses == sorted(losses, reverse=True), losses  # noqa: S101
    ray.shutdown()
    cluster.shutdown()


def _joined() -> Any:  # noqa: ANN401
    import ray  # noqa: PLC0415
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    cluster = Cluster(initialize_head=True, head_node_args={**HEAD, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    return cluster


if __name__ == "__main__":
    main(sys.argv[1])
