"""The codec: protobuf messages <-> objects of the engine, and nothing else.

It checks what only the wire can get wrong (bytes against shapes, dtypes, nodes of no known kind) before it takes
memory; everything else is the engine's to check.
"""

from gradwire_server.codec.counting import Preparation, check_count, preparation
from gradwire_server.codec.examples import decode_framed, decode_rows, decode_upload, id_of
from gradwire_server.codec.graphs import decode_graph
from gradwire_server.codec.parsing import parse
from gradwire_server.codec.requests import (
    NO_ARRAYS,
    Arrays,
    decode_arrays,
    decode_dtype,
    decode_query,
    decode_reduction,
    decode_wrt,
)
from gradwire_server.codec.responses import (
    encode_checks,
    encode_evaluation,
    encode_signature,
    encode_trace,
    parts_of,
)
from gradwire_server.codec.templates import RequestTemplate, request_template
from gradwire_server.codec.tensors import Array, Layout, TensorError, decode_tensor, encode_tensor, layout_of
from gradwire_server.codec.warming import warm

__all__ = [
    "NO_ARRAYS",
    "Array",
    "Arrays",
    "Layout",
    "Preparation",
    "RequestTemplate",
    "TensorError",
    "check_count",
    "decode_arrays",
    "decode_dtype",
    "decode_framed",
    "decode_graph",
    "decode_query",
    "decode_reduction",
    "decode_rows",
    "decode_tensor",
    "decode_upload",
    "decode_wrt",
    "encode_checks",
    "encode_evaluation",
    "encode_signature",
    "encode_tensor",
    "encode_trace",
    "id_of",
    "layout_of",
    "parse",
    "parts_of",
    "preparation",
    "request_template",
    "warm",
]
