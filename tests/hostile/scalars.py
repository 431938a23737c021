"""Columns of packed operations that do not fit each other, or say what nobody knows."""

from __future__ import annotations

from typing import Any

from gradwire.v1 import gradient_service_pb2 as pb
from tests.hostile.messages import EXHAUSTED, INVALID, PRECONDITION, Bad, compute, graph, numbers, op, parameter

ADD, POWER = 1, 9
LEAST = "graph.nodes[1].scalars."


def swarm(**columns: Any) -> Any:
    """A chain of three: sum, sum, square; its result is the last one. The elements have positions 0 and 1."""
    given = {"ops": [ADD, ADD, POWER], "arguments": [0, 1, 2, 1, 3], "exponents": [2], "results": [4], **columns}
    return lambda: pb.RegisterGraphRequest(
        graph=graph(parameter("w", 2), op("scalars", 0, **given), op("sum", 1, name=""))
    )


def chain(operations: int) -> Any:
    """A chain of sums of what comes before with itself, without a result."""
    arguments = [position + 1 for position in range(operations) for _ in range(2)]
    return swarm(ops=[ADD] * operations, arguments=arguments, exponents=[], results=[])


def doubled_until_it_overflows() -> Any:
    """A long chain, the last of which is a million results."""
    count = 200_000
    arguments = [position + 1 for position in range(count) for _ in range(2)]
    box = op("scalars", 0, ops=[ADD] * count, arguments=arguments, results=[count + 1] * 1_000_000)
    program = graph(parameter("w", 2), box, op("sum", 1, name=""))
    return compute(program, {"w": numbers(1, 2)}, reject_non_finite=True)


COLUMNS: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    ("arities-too-few", {"arities": [2]}, "arities", ("1 arities", "3 operations")),
    ("arities-too-many", {"arities": [2, 2, 1, 1]}, "arities", ("4 arities", "3 operations")),
    ("arities-huge", {"arities": [2**32 - 1] * 3}, "arities[2]", ("operation 2", "power", "exactly 1")),
    ("arguments-too-few", {"arguments": [0, 1, 2, 1]}, "arguments", ("4 arguments", "take 5")),
    ("arguments-none", {"arguments": []}, "arguments", ("0 arguments", "take 5")),
    ("arguments-too-many", {"arguments": [0] * 6}, "arguments", ("6 arguments", "take 5")),
    ("argument-itself", {"arguments": [0, 1, 2, 3, 3]}, "arguments[3]",
        ("operation 1 (position 3, add)", "itself", "below 3")),
    ("argument-later", {"arguments": [0, 1, 4, 1, 3]}, "arguments[2]",
        ("operation 1 (position 3, add)", "position 4", "below 3")),
    *(
        (f"argument-{number}", {"arguments": [0, 1, 2, 1, number]}, "arguments[4]",
            ("operation 2 (position 4, power)", f"position {number}", "below 4"))
        for number in (2**31 - 1, 2**31, 2**32 - 1)
    ),
    ("result-past-the-end", {"results": [4, 5]}, "results[1]", ("result 1", "position 5", "below 5")),
    ("result-huge", {"results": [2**31]}, "results[0]", (f"position {2**31}", "below 5")),
    ("no-result", {"results": []}, "results", ("no results",)),
    ("exponents-none", {"exponents": []}, "exponents", ("0 exponents", "1 operations")),
    ("exponents-too-many", {"exponents": [2, 2]}, "exponents", ("2 exponents", "1 operations")),
    ("exponent-infinite", {"exponents": [float("inf")]}, "exponents[0]", ("operation 2", "inf", "finite")),
    ("no-op", {"ops": [ADD, 0, POWER]}, "ops[1]", ("no op", "operation 1", "SCALAR_OP_SOFTPLUS")),
    ("unknown-op", {"ops": [ADD, ADD, 18]}, "ops[2]", ("unknown op 18", "operation 2", "SCALAR_OP_SOFTPLUS")),
    ("negative-op", {"ops": [-(2**31), ADD, 10]}, "ops[0]", (f"op {-(2**31)}", "operation 0")),
    ("no-columns", {"ops": [], "arguments": [], "exponents": [], "results": []}, "results", ("no results",)),
]  # fmt: skip

SCALARS = [
    *(
        Bad(f"scalars-{name}", "RegisterGraph", swarm(**columns), INVALID, "INVALID_GRAPH", ('"culprit"', *words),
            f"{LEAST}{path}")
        for name, columns, path, words in COLUMNS
    ),
    Bad("scalars-at-the-limit", "RegisterGraph", chain(999_997), INVALID, "INVALID_GRAPH", ("no results",),
        f"{LEAST}results"),
    Bad("scalars-one-too-many", "RegisterGraph", chain(999_998), EXHAUSTED, "LIMIT_EXCEEDED",
        ("1000001", "1000000", "max_nodes"), "graph.nodes"),
    Bad("scalars-too-many-arguments", "RegisterGraph", swarm(ops=[ADD], arguments=[0] * 4_000_000, exponents=[]),
        EXHAUSTED, "LIMIT_EXCEEDED", ("4000002", "4000000", "max_edges"), "graph.nodes"),
    *(
        Bad(f"scalars-many-{column}", "RegisterGraph", swarm(**{column: [0] * 4_000_001}), EXHAUSTED, "LIMIT_EXCEEDED",
            ("4000001", "4000000", "max_edges", column), f"{LEAST}{column}")
        for column in ("constants", "arities", "exponents", "results")
    ),
    Bad("scalars-of-a-later-node", "RegisterGraph", lambda: pb.RegisterGraphRequest(graph=graph(
        parameter("w", 2), op("scalars", 2, ops=[ADD], arguments=[0, 1], results=[2]), op("sum", 1, name=""))),
        INVALID, "INVALID_GRAPH", ('"culprit"', "operand 0", "operands come first"), f"{LEAST}operands[0]"),
    Bad("scalars-of-a-huge-tensor", "RegisterGraph", lambda: pb.RegisterGraphRequest(graph=graph(
        parameter("w", 2**30), op("scalars", 0, ops=[ADD], arguments=[0, 1], results=[2]), op("sum", 1, name=""))),
        EXHAUSTED, "LIMIT_EXCEEDED", ('"w"', "max_tensor_bytes")),
    Bad("scalars-overflow", "ComputeGradients", doubled_until_it_overflows, PRECONDITION, "NON_FINITE",
        ('"culprit"', "inf"), "graph.nodes[1]"),
]  # fmt: skip
