"""Uploads of examples, in frames."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

import grpc

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.frames import chunk_of
from gradwire_server import codec
from gradwire_server.errors import Reason, Refusal, refuse, shown
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.capacity.waits import Pace, Waits
from gradwire_server.service.requests.logic import check_id
from gradwire_server.service.requests.store import Examples, ExampleStore
from gradwire_server.service.rpc.answering import SMALL_BYTES, Answering, seconds_to_read
from gradwire_server.service.rpc.methods import LAST_WORD
from gradwire_server.service.rpc.status import Context
from gradwire_server.service.telemetry.metrics import Stage

SECONDS_PER_BYTE = 2e-9
"""Rough time to hash a byte, with instructions of the processor that are made for it a third of that."""

PARSED_BYTES = 64
"""Memory that a byte of a head may take when it is parsed."""


class Uploads:
    """Calls of UploadExamples."""

    def __init__(self, answering: Answering, store: ExampleStore, arrivals: Waits, max_stall: float) -> None:
        self._answering = answering
        self._store = store
        self._arrivals = arrivals
        """Calls waiting for what they have announced."""
        self._max_stall = max_stall
        """Seconds that an upload may stand still."""

    async def answer(self, context: Context) -> None:
        """Take examples and keep them; whatever is wrong ends the call with a status."""
        caller = Caller(context.time_remaining())
        try:
            response = (await self._kept(context, caller)).SerializeToString()
            await context.write(response)
            self._answering.metrics.sent(len(response))
        except Exception as error:  # noqa: BLE001  (a status tells of it)
            await self._answering.fail(context, "UploadExamples", error)
        finally:
            self._answering.admission.release(caller)

    async def _kept(self, context: Context, caller: Caller) -> pb.UploadExamplesResponse:
        pace = Pace(self._max_stall)
        caller.name = context.peer()
        self._answering.admission.check(caller)
        head = await self._head(context, caller, pace)
        claimed = head.examples_id
        if claimed:
            check_id(claimed, "examples_id", "UploadExamples returns", "examples_id")
            known = self._store.find(claimed)
            if known is not None:
                return _response(claimed, known, held=True)
        layouts = codec.decode_upload(head, self._answering.engine_limits)
        admission = self._answering.admission
        admission.release(caller)
        received = self._store.receive(layouts)
        await self._receive(context, pace, received)
        admission.admit(caller)
        cost = SECONDS_PER_BYTE * received.nbytes
        examples_id = await self._answering.work.run(
            caller, cost, partial(codec.id_of, received.arrays, caller.checkpoint)
        )
        if claimed not in ("", examples_id):
            raise refuse(
                Reason.INVALID_REQUEST,
                f"the examples have the id {examples_id}, not {claimed} as announced; leave it out, or hash as the "
                "contract says",
                "examples_id",
                found=examples_id,
            )
        return _response(examples_id, received, held=not self._store.put(examples_id, received))

    async def _head(self, context: Context, caller: Caller, pace: Pace) -> pb.UploadExamplesHead:
        raw = await self._next(context, pace, 0)
        if raw is grpc.aio.EOF:
            raise _invalid("the call ended before its head was there; send one")
        self._answering.check_size(raw)
        if len(raw) <= SMALL_BYTES:
            frame = _parsed(raw, self._answering)
        else:
            self._answering.admission.admit(caller, len(raw))
            self._answering.admission.reserve(caller, PARSED_BYTES * len(raw))
            cost = seconds_to_read(len(raw))
            frame = await self._answering.work.run(caller, cost, partial(_parsed, raw, self._answering))
        if frame.WhichOneof("frame") != "head":
            raise _invalid("the first frame is no head; send one, and then chunks")
        return frame.head

    async def _receive(self, context: Context, pace: Pace, received: Examples) -> None:
        """Take the chunks of all tensors, and the end of the call after them."""
        pending = deque(
            (name, array.reshape(-1).view("u1").data) for name, array in received.arrays.items() if array.nbytes
        )
        lacking = sum(len(rest) for _, rest in pending)
        pace.begin()
        while (raw := await self._next(context, pace, lacking)) is not grpc.aio.EOF:
            chunk = chunk_of(raw, 0)
            if chunk is None:
                self._answering.check_size(raw)
                frame = _parsed(raw, self._answering)
                if frame.WhichOneof("frame") != "chunk":
                    raise _invalid(f"a frame that is no chunk, but {lacking} bytes are still to come")
                chunk = memoryview(frame.chunk)
            if not pending:
                raise _invalid(f"a chunk of {len(chunk)} bytes, but all that was announced is there")
            name, rest = pending.popleft()
            if not 0 < len(chunk) <= len(rest):
                raise _invalid(
                    f"a chunk of {len(chunk)} bytes, but tensor {shown(name)} lacks {len(rest)}; a chunk has at least "
                    "one byte, and bytes of one tensor only"
                )
            rest[: len(chunk)] = chunk
            lacking -= len(chunk)
            if len(chunk) < len(rest):
                pending.appendleft((name, rest[len(chunk) :]))
        if pending:
            # A call that was cancelled seems to end its messages first.
            await asyncio.sleep(LAST_WORD)
            raise _invalid(f"the call ended, but {lacking} bytes of what was announced are still to come")

    async def _next(self, context: Context, pace: Pace, lacking: int) -> Any:  # noqa: ANN401  (bytes, or grpc.aio's EOF)
        try:
            async with asyncio.timeout(pace.left(lacking)):
                with self._arrivals:
                    raw: Any = await context.read()
        except TimeoutError:
            self._answering.metrics.cancelled(Stage.RECEIVING)
            raise refuse(
                Reason.DEADLINE_EXCEEDED,
                f"next to nothing came for {self._max_stall:g} s (max_stall); {lacking} bytes of the examples are "
                "still to come",
                setting="max_stall",
            ) from None
        if raw is not grpc.aio.EOF:
            self._answering.metrics.received(len(raw))
        return raw


def _parsed(raw: bytes, answering: Answering) -> pb.UploadExamplesRequest:
    return codec.parse(pb.UploadExamplesRequest, raw, answering.engine_limits)


def _response(examples_id: str, examples: Examples, *, held: bool) -> pb.UploadExamplesResponse:
    return pb.UploadExamplesResponse(examples_id=examples_id, examples=examples.rows, bytes=examples.nbytes, held=held)


def _invalid(found: str) -> Refusal:
    return refuse(Reason.INVALID_FRAME, f"upload: {found}")
