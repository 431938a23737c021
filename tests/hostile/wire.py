"""What is no message, or none that this server knows."""

from __future__ import annotations

from functools import partial

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.version import VERSION
from tests.hostile.messages import EXHAUSTED, INVALID, Bad, Node, graph, parameter, register, valid


def nested(depth: int, tag: bytes) -> bytes:
    """A message field inside a message field, and so on."""
    message = b""
    for _ in range(depth):
        message = delimited(tag, message)
    return message


def delimited(tag: bytes, content: bytes) -> bytes:
    """A field with its length."""
    length = len(content)
    varint = b""
    while True:
        varint += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
        if not length:
            break
    return tag + varint + content


def bad_utf8() -> bytes:
    request = bytes(pb.RegisterGraphRequest(graph=graph(parameter("name"))).SerializeToString())
    return request.replace(b"name", b"n\xff\xfee")


def unknown_op() -> bytes:
    # Field 999 of a node, a message.
    node = b"\xba\x3e\x00"
    wrapped = b"\x0a" + bytes([len(node)]) + node
    return b"\x0a" + bytes([len(wrapped)]) + wrapped


def in_a_node(content: bytes) -> bytes:
    """The request that registers a graph of one node."""
    return delimited(b"\x0a", delimited(b"\x0a", content))


def many_tensors() -> bytes:
    return valid() + b"".join(delimited(b"\x22", b"\x0a\x07" + b"%07d" % i) for i in range(3_000_000))


def head(kept: int) -> bytes:
    return valid()[:kept]


WIRE = [
    Bad("empty", "RegisterGraph", lambda: b"", INVALID, "GRAPH_MISSING", ("graph is missing",), "graph"),
    Bad("empty-compute", "ComputeGradients", lambda: b"", INVALID, "GRAPH_MISSING", ("graph or graph_id",), "graph"),
    *(
        Bad(f"random-{method}", method, lambda: b"\xff\x13\x37" * 16 + b"\x07\x00", INVALID, "MALFORMED_MESSAGE",
            ("50 bytes", f"{method}Request"))
        for method in ("RegisterGraph", "ComputeGradients", "TraceGraph", "CheckGradients", "GetServerInfo")
    ),
    *(
        Bad(f"truncated-{kept}", "ComputeGradients", partial(head, kept), INVALID, "MALFORMED_MESSAGE",
            (f"{kept} bytes", "truncated"))
        for kept in (1, 9, 20, len(valid()) - 3)
    ),
    Bad("not-utf-8", "RegisterGraph", bad_utf8, INVALID, "MALFORMED_MESSAGE", ("UTF-8",)),
    Bad("nested-messages", "ComputeGradients", lambda: nested(20_000, b"\x0a"), INVALID, "MALFORMED_MESSAGE",
        ("bytes",)),
    Bad("nested-groups", "ComputeGradients", lambda: b"\xfb\x3f" * 20_000 + b"\xfc\x3f" * 20_000, INVALID,
        "MALFORMED_MESSAGE", ("nested", "100")),
    Bad("over-the-cap", "ComputeGradients", lambda: valid() + b"\xfa\x3e\xff\xff\xff\x3f" + b"x" * ((128 << 20) - 1),
        EXHAUSTED, "LIMIT_EXCEEDED", ("134217728", "--max-message-bytes", "StreamGradients")),
    Bad("no-op", "RegisterGraph", register(Node(name="culprit")), INVALID, "INVALID_GRAPH",
        ('"culprit"', "no kind", VERSION, "softplus"), "graph.nodes[0]"),
    Bad("unknown-op", "RegisterGraph", unknown_op, INVALID, "INVALID_GRAPH",
        ("field 999", VERSION, "softplus"), "graph.nodes[0]"),
    Bad("many-empty-nodes", "RegisterGraph", lambda: delimited(b"\x0a", b"\x0a\x00" * 20_000_000), EXHAUSTED,
        "LIMIT_EXCEEDED", ("20000000 nodes", "1000000", "max_nodes"), "graph.nodes", factor=8),
    *(
        Bad(f"{name}-without-end", method, partial(delimited, field, item * count), INVALID, reason,
            (f"at least {more} more", *words), path, factor=200)
        for name, method, field, item, count, reason, more, words, path in [
            ("empty-nodes", "RegisterGraph", b"\x0a", b"\x0a\x00", 900_000, "INVALID_GRAPH", 999, ("no kind",),
             "graph.nodes[0]"),
            ("constants", "RegisterGraph", b"\x0a", b"\x0a\x02\x22\x00", 900_000, "INVALID_GRAPH", 999, ("no value",),
             "graph.nodes[0]"),
            ("unnamed", "RegisterGraph", b"\x0a", b"\x0a\x02\x12\x00", 900_000, "INVALID_GRAPH", 99_999,
             ("without a name",), "graph.nodes[0]"),
        ]
    ),
    Bad("many-empty-names", "ComputeGradients", lambda: valid() + delimited(b"\x32", b"\x0a\x00" * 20_000_000),
        EXHAUSTED, "LIMIT_EXCEEDED", ("20000000 names", "1000000", "max_nodes"), "wrt.names", factor=8),
    Bad("many-tensors", "ComputeGradients", many_tensors, EXHAUSTED, "LIMIT_EXCEEDED",
        ("3000001 tensors", "1000000", "max_nodes"), "tensors", factor=8),
    Bad("many-operands", "RegisterGraph", lambda: in_a_node(delimited(b"\x2a", delimited(b"\x0a", bytes(50_000_000)))),
        EXHAUSTED, "LIMIT_EXCEEDED", ("50000000 operands", "4000000", "max_edges"), "graph.nodes", factor=8),
    Bad("many-axes", "TraceGraph", lambda: delimited(b"\x22", delimited(b"\x12", delimited(b"\x12", bytes(10**8)))),
        EXHAUSTED, "LIMIT_EXCEEDED", ("100000000 numbers", "12000000", "max_edges + 8 max_nodes"), factor=8),
    Bad("many-unknown-fields", "RegisterGraph", lambda: in_a_node(b"\xf8\x3e\x01" * 13_000_000), EXHAUSTED,
        "LIMIT_EXCEEDED", ("13000002 fields", "12000000", "max_edges + 8 max_nodes"), factor=8),
]  # fmt: skip

STANDARD = [
    Bad(name, method, partial(bytes, raw), INVALID, "MALFORMED_MESSAGE", ("not a valid request", word), service=service)
    for method, service in (
        ("Check", "grpc.health.v1.Health"),
        ("Watch", "grpc.health.v1.Health"),
        ("ServerReflectionInfo", "grpc.reflection.v1alpha.ServerReflection"),
    )
    for name, raw, word in (("garbage", b"\xff" * 3, "3 bytes"), ("not-utf-8", b"\x0a\x02\xff\xfe", "UTF-8"))
]
