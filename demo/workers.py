"""Worker processes: each holds a part of the rows and asks the server for the gradient on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np

import gradwire as gw
from demo.problem import Floats, Rows, train_loss

Answer = tuple[float, Floats]


def work(address: str, rows: Rows, coordinator: Connection) -> None:
    """Answer each w with the sum of the losses of the rows and its gradient, until the coordinator hangs up."""
    with gw.connect(address) as client:
        sum_and_grad = client.value_and_grad(train_loss(rows.features.shape[1]), reduction="sum")
        try:
            while True:
                w = coordinator.recv()
                value, gradients = sum_and_grad(w=w, phi=rows.features, y=rows.labels)
                coordinator.send((float(value), gradients["w"]))
        except gw.GradwireError as error:
            with suppress(BrokenPipeError):
                coordinator.send(error)
        except (EOFError, BrokenPipeError):
            return


class Workers:
    """The coordinator's end of its workers."""

    def __init__(self, connections: list[Connection], examples: int) -> None:
        self._connections = connections
        self._examples = examples

    def train_loss(self, w: Floats) -> Answer:
        """TrainLoss(w) over the rows of all workers, and its gradient.

        Raises:
            gw.GradwireError: What a worker's call raised.
        """
        for connection in self._connections:
            connection.send(w)
        answers = [self._receive(connection) for connection in self._connections]
        value = sum(value for value, _ in answers)
        gradient = np.sum([gradient for _, gradient in answers], axis=0)
        return value / self._examples, gradient / self._examples

    @staticmethod
    def _receive(connection: Connection) -> Answer:
        answer: Answer | gw.GradwireError = connection.recv()
        if isinstance(answer, gw.GradwireError):
            raise answer
        return answer


@contextmanager
def started(address: str, rows: Rows, count: int) -> Iterator[Workers]:
    """Workers that hold the rows among them; they end with the block."""
    # Spawned: a process that has used gRPC must not be forked.
    context = get_context("spawn")
    connections, processes = [], []
    for part in np.array_split(np.arange(len(rows.labels)), count):
        ours, theirs = context.Pipe()
        shard = Rows(rows.features[part], rows.labels[part])
        process = context.Process(target=work, args=(address, shard, theirs), daemon=True)
        process.start()
        # The worker has its own copy, and a dead worker is noticed only when no other is open.
        theirs.close()
        connections.append(ours)
        processes.append(process)
    try:
        yield Workers(connections, len(rows.labels))
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join()
