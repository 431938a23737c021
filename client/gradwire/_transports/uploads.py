"""Uploads of examples: their frames, and the server that they go to. No I/O happens here."""

from __future__ import annotations

from collections.abc import Iterator

from gradwire._calls.examples import Form
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.frames import CHUNK_BYTES, chunk_frame

KEY = "gradwire-examples"
"""Key of the metadata with the id of the examples that a call is about, by which a balancer may choose the server."""

Metadata = tuple[tuple[str, str], ...]


def about(examples_id: str) -> Metadata:
    """What goes with a call about these examples; nothing for a call about none."""
    return ((KEY, examples_id),) if examples_id else ()


def upload_frames(form: Form) -> Iterator[bytes]:
    """The frames of an upload, serialized; a part of the arrays is read when it is asked for."""
    announced = list(form.framed())
    head = pb.UploadExamplesHead(examples_id=form.examples_id, tensors=announced)
    yield pb.UploadExamplesRequest(head=head).SerializeToString()
    for tensor in announced:
        for part in form.parts(tensor.name, CHUNK_BYTES):
            yield chunk_frame(0, part)
