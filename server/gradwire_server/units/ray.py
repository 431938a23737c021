"""Units by Ray: actors read files, and compute. Callers have it as ``gradwire.ray``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack, overload

import ray
from ray import exceptions

from gradwire._calls.computation import Loss, Options
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import Result
from gradwire._errors import GradwireError, InvalidRequestError, ServerError, UnavailableError
from gradwire._numbers import whole
from gradwire_server.units.actor import Actor
from gradwire_server.units.columns import Names
from gradwire_server.units.deaths import given_up, options_of
from gradwire_server.units.formats import Unit
from gradwire_server.units.much import MAX_UNIT_BYTES, Asked, MuchData
from gradwire_server.units.sharing import Sharing
from gradwire_server.units.sums import Partial, Program
from gradwire_server.units.tree import blocks

AHEAD = 2
"""Blocks that an actor has at a time, one of which waits."""

CARRIED = 64 << 10
"""Bytes of a graph, and of arrays, that travel with each block: to take them out of the object store takes an actor
and its node a millisecond, and Ray takes no more than 100 KiB along by itself."""

LOOK_SECONDS = 5.0
"""Seconds without an answer of any actor after which it is looked whether the cluster is there: without one Ray waits
for a minute, and then ends the program."""

CONNECT_SECONDS = 15.0
"""Seconds that a part of the cluster may take to answer then, which may be busy."""


class ValueAndGrad:
    """A loss that actors evaluate and differentiate; made by ``gradwire.ray.value_and_grad``.

    Close it, or use it in a ``with`` block, to let the actors go; they end with the program at the latest.
    """

    def __init__(self, data: MuchData, actors: int | None, actor_options: Mapping[str, Any]) -> None:
        self._data = data
        self._count = actors
        self._options = options_of(actor_options)
        self._actors: dict[Any, bool] = {}
        """Whether each has computed anything yet."""
        self._job: object = None
        self._parts: list[tuple[str, int]] = []
        """Hosts and ports of the cluster's head and of this program's node."""
        self._programs: dict[Program, Any] = {}
        """References to large programs in the object store."""

    @overload
    def __call__(self, *, timeout: float | None = None, **named: Any) -> tuple[Any, dict[str, Any]]: ...

    @overload
    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]: ...

    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]:
        """Loss and gradients for these arrays, over all rows of the files.

        Args:
            *arrays: As for what ``client.value_and_grad`` makes, without what is read from the files.
            timeout: Seconds for the whole step. Default: no bound.
            **named: Likewise.

        Returns:
            The loss, a scalar, and the gradients, nested as those of ``client.value_and_grad``. Their bits depend on
            the files and arrays alone: not on how many actors there are, on who is quick, or on who died meanwhile.

        Raises:
            GradwireError: Whatever is wrong.
        """
        result = self.evaluate(*arrays, timeout=timeout, **named)
        return result.loss, result.gradients

    def evaluate(self, *arrays: Any, timeout: float | None = None, **named: Any) -> Result:
        """The whole result, with the report of non-finite values, whose examples are numbered through all files."""
        deadline = Deadline(timeout)
        asked = self._data.asked(arrays, named)
        if not self._data.units:
            return self._data.answer(asked, [])
        try:
            return self._data.answer(asked, self._step(asked, deadline))
        except (exceptions.RayError, ConnectionError) as failure:
            # Killing actors would wait for a cluster that is gone; without handles they end by themselves.
            self._forget()
            try:
                self._look()
            except ConnectionError:
                # Ray has a hook for errors that nobody catches, which would wait for the cluster, in vain, before they
                # are printed, until Ray ends the program.
                ray.shutdown()
            raise UnavailableError(
                f"the cluster of Ray, or the node of this program, is gone or failed in this step: {failure}; save the "
                "parameters of this step, of which nothing is lost, and go on from them: here after ray.init(), or "
                "when the program is started again"
            ) from failure

    def close(self) -> None:
        """Let the actors go; a later step makes new ones."""
        for actor in self._forget():
            with suppress(Exception):  # it has ended, or its cluster has
                ray.kill(actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget(self) -> list[Any]:
        """The actors there were."""
        actors, self._actors, self._programs = [*self._actors], {}, {}
        return actors

    def _step(self, asked: Asked, deadline: Deadline) -> list[Partial]:
        """The sums over all blocks, in their order."""
        actors = self._ready()
        sharing = Sharing(blocks(self._data.units, AHEAD * len(actors)), *self._carried(asked))
        found: dict[int, Partial] = {}
        for actor in actors * AHEAD:
            sharing.give(actor)
        reachable = True
        try:
            while running := [*sharing]:
                left = deadline.left
                done, _ = ray.wait(running, timeout=LOOK_SECONDS if left is None else min(left, LOOK_SECONDS))
                if not done:
                    self._look()
                for reference in done:
                    # Another actor may have been given it meanwhile.
                    if reference in sharing:
                        self._take(reference, sharing, found)
        except ConnectionError:
            reachable = False  # whoever is gone cancels nothing, and would be waited for
            raise
        finally:
            # Whatever else was asked of actors in a step that failed is not wanted any more.
            with suppress(Exception):  # the cluster may be gone
                for reference in sharing if reachable else ():
                    ray.cancel(reference)
        return [found[place] for place in sorted(found)]

    def _take(self, reference: Any, sharing: Sharing, found: dict[int, Partial]) -> None:
        """Take the sum over a block, and give its actor the next one; or give another actor what a dead one had."""
        actor = sharing.actor(reference)
        units = sharing.computed(actor)
        try:
            partial = _gotten(reference, units, self._look)
        except exceptions.ActorDiedError as death:
            sharing.hand_over(actor, self._replaced(actor, units, death))
            return
        self._actors[actor] = True
        found[sharing.ended(reference)] = partial
        sharing.give(actor)

    def _carried(self, asked: Asked) -> tuple[Any, Any]:
        """The program and the arrays as blocks bring them: themselves, or references where they are large."""
        program: Any = asked.program
        if len(program.graph) > CARRIED:
            program = self._programs.get(program) or self._programs.setdefault(program, ray.put(program))
        large = sum(array.nbytes for array in asked.arrays.values()) > CARRIED
        return program, ray.put(asked.arrays) if large else asked.arrays

    def _look(self) -> None:
        """Whether the cluster is there still.

        Raises:
            ConnectionError: It is not.
        """
        for part in self._parts:
            try:
                socket.create_connection(part, CONNECT_SECONDS).close()
            except OSError as error:
                raise ConnectionError(f"nobody answers at {part[0]}:{part[1]}: {error}") from error

    def _replaced(self, actor: Any, units: Sequence[Unit], death: Exception) -> Any:
        """Another actor in the place of one that has died for good.

        Raises:
            UnavailableError: It never computed anything; the next step makes all actors anew.
        """
        if not self._actors.pop(actor):
            self.close()
            raise given_up(_named(units), self._options, death)
        other = self._made()
        self._actors[other] = False
        return other

    def _ready(self) -> list[Any]:
        """The actors, on the cluster that the program has joined."""
        if not ray.is_initialized():
            _join()
        context = ray.get_runtime_context()
        job = context.get_job_id(), context.get_node_id()
        if job != self._job:
            self._job, self._actors, self._programs = job, {}, {}
            # A program that joined through Ray's client has no node, and is told when its connection breaks.
            self._parts = [] if ray.util.client.ray.is_connected() else _parts(context)
        if not self._actors:
            cpus = self._options["num_cpus"]
            count = self._count or int(ray.cluster_resources().get("CPU", 1) // (cpus or 1)) or 1
            self._actors = {self._made(): False for _ in range(count)}
        return [*self._actors]

    def _made(self) -> Any:
        """A new actor."""
        return ray.remote(Actor).options(**self._options).remote(max(1, int(self._options["num_cpus"])))


def value_and_grad(
    loss: Loss,
    files: Any,
    *,
    columns: Names | None = None,
    actors: int | None = None,
    actor_options: Mapping[str, Any] | None = None,
    max_unit_bytes: int = MAX_UNIT_BYTES,
    **options: Unpack[Options],
) -> ValueAndGrad:
    """A callable that gives the loss over all rows of files, and its gradients, as ``client.value_and_grad`` does.

    ::

        step = gradwire.ray.value_and_grad(loss, "data/*.parquet")
        value, gradients = step(w=w)

    Per-example inputs, or arguments of a function that ``per_example`` names, are columns of the files; all others are
    given with a step. Row groups of Parquet and record batches of Arrow IPC are read and computed one at a time, by
    actors that each hold one of them.

    Args:
        loss: As for ``client.value_and_grad``. It travels as a graph; functions are traced here, and do not travel.
        files: Paths, globs, folders or URIs of Parquet or Arrow IPC files, which every node reads under these names; or
            a ``ray.data.Dataset`` that reads files and does nothing else, for these.
        columns: Columns by input, where they are not named like it: ``{"y": "label"}``, or ``{"x": ["age", "height"]}``
            for flat ones that are the elements of a vector. Columns are numbers, lists of one length, or tensors.
        actors: How many. Default: as the CPUs of the cluster allow.
        actor_options: What Ray takes for an actor, such as ``{"memory": 4 << 30}``. Default: one CPU.
        max_unit_bytes: Bytes that the arrays of a row group or record batch may take.
        **options: ``reduction`` (``"mean"`` or ``"sum"``), ``wrt``, ``ties``, ``dtype``, ``inputs``, ``per_example``
            and ``reject_non_finite``; see ``gw.Options``.

    Raises:
        InvalidRequestError: There are no such files or columns, columns hold no numbers, or an option makes no sense.
        LimitExceededError: A row group or record batch is larger than ``max_unit_bytes``.
    """
    if actors is not None and (whole(actors) or 0) < 1:
        raise InvalidRequestError(f"actors={actors!r:.64}: expected an integer from 1")
    data = MuchData(loss, _files(files), columns, max_unit_bytes, options)
    return ValueAndGrad(data, actors, actor_options or {})


def _parts(context: Any) -> list[tuple[str, int]]:
    host, _, port = context.gcs_address.rpartition(":")
    own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return [(host.strip("[]"), int(port)), (own["NodeManagerAddress"], own["NodeManagerPort"])]


def _files(files: Any) -> object:
    """The files, also those of a dataset.

    Raises:
        InvalidRequestError: A dataset does more than to read files.
    """
    plan = getattr(files, "_logical_plan", None)
    if plan is None:
        return files
    # ``input_files`` is empty of a plan that lists files first, and of one that limits or filters it has all.
    [source] = plan.dag.input_dependencies or [plan.dag]
    kinds = type(plan.dag).__name__, type(source).__name__
    found: list[str] = []
    if kinds == ("ReadFiles", "ListFiles"):
        found = list(source.paths)
    elif kinds == ("Read", "Read"):
        found = sorted(files.input_files())
    if not found:
        raise InvalidRequestError(
            f"expected files, or a dataset that reads files and does nothing else; found {plan.dag.name}: write what "
            "it makes with write_parquet, and give these files"
        )
    return found


def _join() -> None:
    """Join the cluster that the environment names, or start one on this machine that tells nobody of it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" in os.environ:
        ray.init()
    else:
        ray.init(include_dashboard=False)


def _gotten(reference: Any, units: Sequence[Unit], look: Callable[[], None]) -> Partial:
    """The sum over a block of units.

    Args:
        reference: To it.
        units: Those that its actor was given first.
        look: Raises ``ConnectionError`` if the cluster is gone, when Ray says an actor died, or cannot be reached.

    Raises:
        ActorDiedError: Its actor is not made again.
    """
    try:
        found: Partial = ray.get(reference)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, GradwireError):
            raise error.cause from None
        raise ServerError(f"an actor failed at {_named(units)}: {error.cause!r}") from error
    except exceptions.ActorDiedError:
        look()
        raise
    except exceptions.RayActorError as error:
        look()
        raise UnavailableError(
            f"the actor that computes {_named(units)} has died again and again in this step, and is given up: {error}; "
            "where that is for want of memory, write smaller row groups or give actors more"
        ) from error
    return found


def _named(units: Sequence[Unit]) -> str:
    return str(units[0]) if len(units) == 1 else f"units from {units[0]} to {units[-1]}"
