"""Rows of uploaded examples in a request: those that follow each other as they are, all others copied when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server import codec, engine
from gradwire_server.codec import Array
from gradwire_server.engine import Checkpoint
from gradwire_server.errors import Findings, Reason, refuse, shown
from gradwire_server.service.requests.store import Examples

PART_BYTES = 1 << 20
"""About how much is copied at a time."""

SECONDS_PER_ROW, SECONDS_PER_BYTE = 2e-8, 2e-10
"""Rough time to copy a row of one tensor, and a byte of it, on one core."""

FEW_BYTES = 3 << 19
"""Copies up to this are made by the thread that asks. It takes some 50 us until another one helps, in which one thread
copies a third of this."""

LISTED = 8
"""Names that a message lists at most."""


class Gather(NamedTuple):
    """Rows to be copied."""

    sources: Mapping[str, Array]
    """[N, *shape], by name."""
    indices: NDArray[np.int64]

    @property
    def memory(self) -> int:
        """Bytes of the copies."""
        return len(self.indices) * sum(_row_bytes(source) for source in self.sources.values())

    @property
    def cost(self) -> float:
        """Rough estimate of the time it takes, in seconds on one core."""
        return SECONDS_PER_ROW * len(self.indices) * len(self.sources) + SECONDS_PER_BYTE * self.memory

    def announced(self) -> dict[str, Array]:
        """Arrays like the copies, which take no memory: all their elements are one."""
        return {
            name: np.broadcast_to(np.zeros((), source.dtype), (len(self.indices), *source.shape[1:]))
            for name, source in self.sources.items()
        }

    def copies(self, threads: engine.Threads, checkpoint: Checkpoint) -> dict[str, Array]:
        """The rows, copied by all threads that are free if they are many; raises what ``checkpoint`` raises."""
        if self.memory <= FEW_BYTES:
            return {name: _taken(source, self.indices) for name, source in self.sources.items()}
        found: dict[str, Array] = {}
        parts: list[tuple[Array, Array, slice]] = []
        for name, source in self.sources.items():
            copy = found[name] = np.empty((len(self.indices), *source.shape[1:]), source.dtype)
            rows = max(1, PART_BYTES // max(1, _row_bytes(source)))
            parts += [
                (source, copy, slice(start, start + rows)) for start in range(0, len(self.indices), rows) if copy.nbytes
            ]
        numbers, end = count(), [len(parts)]

        def work(checkpoint: Checkpoint) -> None:
            while (number := next(numbers)) < end[0]:
                checkpoint()
                source, copy, rows = parts[number]
                _taken(source, self.indices[rows], copy[rows])

        with threads.caller():
            helpers = threads.help([partial(work, engine.unhurried)] * (min(threads.count, len(parts)) - 1))
            try:
                work(checkpoint)
            except BaseException:
                # Helpers find nothing left to do.
                end[0] = 0
                raise
            finally:
                for helper in helpers:
                    if not helper.cancel():
                        helper.result()
        return found


def _taken(source: Array, indices: NDArray[np.int64], out: Array | None = None) -> Array:
    # In range, which was checked: "clip" alone copies without a buffer in between.
    return source.take(indices, axis=0, out=out, mode="clip")


def _row_bytes(source: Array) -> int:
    return source[:1].nbytes if len(source) else 0


class Rows(NamedTuple):
    """What a request has of uploaded examples."""

    arrays: Mapping[str, Array]
    """[N, *shape] of the request's N, by name; of what is to be copied, announced only."""
    gather: Gather | None


def rows_of(
    message: pb.StoredExamples, examples: Examples, program: engine.Program, sent: codec.Arrays, limits: engine.Limits
) -> Rows:
    """The rows that a request is about, of the tensors for which the graph has a per-example input.

    Args:
        message: What is asked for.
        examples: The examples of that id.
        program: Of the graph.
        sent: The tensors that came with the request.
        limits: Of tensors.

    Raises:
        Refusal: INVALID_TENSOR, INVALID_REQUEST, INDEX_OUT_OF_RANGE.
    """
    rows = codec.decode_rows(message, examples.rows, limits)
    wanted = [source for source in program.facts.sources if source.per_example]
    found = {source.name: examples.arrays[source.name] for source in wanted if source.name in examples.arrays}
    findings = Findings()
    for name in found:
        if name in sent:
            findings.add(
                Reason.INVALID_TENSOR,
                f"tensor {shown(name)} is both in the request and in its examples; send it once",
                f"tensors[{shown(name)}]",
            )
    for source in wanted:
        if source.name not in found and source.name not in sent:
            listed = ", ".join(shown(name) for name in list(examples.arrays)[:LISTED])
            more = ", ..." if len(examples.arrays) > LISTED else ""
            findings.add(
                Reason.INVALID_TENSOR,
                f"tensor of {source} is missing: it is not in the request, and its examples have {listed}{more}",
                f"tensors[{shown(source.name)}]",
            )
    findings.check()
    if isinstance(rows, slice):
        return Rows({name: array[rows] for name, array in found.items()}, None)
    gather = Gather(found, rows)
    return Rows(gather.announced(), gather)


def check_memory(memory: int, limits: engine.Limits) -> None:
    """Go on if a computation with copies of rows takes no more than it may.

    Raises:
        Refusal: LIMIT_EXCEEDED.
    """
    if memory > limits.max_memory_bytes:
        raise refuse(
            Reason.LIMIT_EXCEEDED,
            f"the computation would take about {memory} bytes with the rows that are copied for it; this server takes "
            f"at most {limits.max_memory_bytes} (max_memory_bytes); ask for fewer rows, or for a range of them",
            "examples.indices",
            found=memory,
            limit=limits.max_memory_bytes,
            setting="max_memory_bytes",
        )
