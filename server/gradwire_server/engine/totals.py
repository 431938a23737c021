"""Sums over examples: what blocks give, added up in the order of the blocks."""

from __future__ import annotations

import numpy as np

from gradwire_server.engine.block import Partial
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.job import Job
from gradwire_server.engine.memory import Arena
from gradwire_server.engine.shapes import accumulator
from gradwire_server.engine.workspace import Workspace


class Totals:
    """The sums as far as blocks have given theirs.

    Args:
        job: What is computed.
        workspace: Where the gradients of blocks are, and go back to.
    """

    def __init__(self, job: Job, workspace: Workspace) -> None:
        self._job = job
        self._workspace = workspace
        self.loss = 0.0
        self._gradients: Arena | None = None
        self._wide: Array | None = None
        """Their sum, where float32 would not do."""

    def add(self, partial: Partial) -> None:
        """Add what a block gave, which ends its use of the storage."""
        self.loss += partial.loss
        sums = partial.sums
        if partial.differentiated and not self._job.per_example_gradients:
            if self._gradients is None:
                self._gradients = sums
                dtype = self._job.query.dtype
                wide = accumulator(dtype, self._job.blocks)
                if wide != dtype:
                    self._wide = sums.flat.astype(wide)
                return
            total = self._gradients.flat if self._wide is None else self._wide
            np.add(total, sums.flat, out=total)
        self._workspace.idle_sums.append(sums)

    def gradients(self) -> Arena | None:
        """Those of what examples share, once all blocks are there, reduced as asked; None if no block gave any."""
        if self._gradients is None:
            return None
        flat = self._gradients.flat
        total = flat if self._wide is None else self._wide
        divisor = self._job.examples if self._job.query.reduction is Reduction.MEAN else 1
        if divisor > 1 or total is not flat:
            np.divide(total, divisor, out=flat, casting="same_kind")
        return self._gradients
