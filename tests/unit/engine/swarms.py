"""Swarms of scalars: drawn at random, and read operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

OPS = (
    *("", "add", "mul", "max", "sigmoid", "exp", "log", "tanh", "softplus", "power", "sin", "cos", "log1p", "expm1"),
    *("erf", "less", "equal", "select"),
)
"""The ops by their codes."""

NARY = {"add", "mul", "max"}

ARITIES = {**dict.fromkeys(OPS[1:], 1), **dict.fromkeys((*NARY, "less", "equal"), 2), "select": 3}
"""How many arguments each takes where none are told."""


def columns(
    operations: Sequence[tuple[str, Sequence[int]] | tuple[str, Sequence[int], float]],
    results: Sequence[int],
    constants: Sequence[float] = (),
) -> dict[str, Any]:
    """The attributes of a swarm of these operations, each an op, its arguments and the exponent of a power."""
    arities = [len(operation[1]) for operation in operations]
    usual = all(arity == ARITIES[operation[0]] for operation, arity in zip(operations, arities, strict=True))
    return {
        "constants": np.array(constants, np.float64),
        "ops": np.array([OPS.index(operation[0]) for operation in operations], np.int32),
        "arities": np.array([] if usual else arities, np.int64),
        "arguments": np.array([place for operation in operations for place in operation[1]], np.int64),
        "exponents": np.array([operation[2] for operation in operations if len(operation) == 3], np.float64),
        "results": np.array(results, np.int64),
    }


def operations_of(swarm: Mapping[str, Any]) -> Iterator[tuple[str, list[int], dict[str, float]]]:
    """Of each operation the op, its arguments and its attributes."""
    arguments, arities, exponents = map(iter, (swarm["arguments"].tolist(), swarm["arities"], swarm["exponents"]))
    for code in swarm["ops"]:
        op = OPS[code]
        arity = int(next(arities)) if len(swarm["arities"]) else ARITIES[op]
        own = [next(arguments) for _ in range(arity)]
        yield op, own, {"exponent": float(next(exponents))} if op == "power" else {}


def positions_of(
    swarm: Mapping[str, Any], given: Sequence[Any], apply: Callable[[str, list[Any], dict[str, float]], Any]
) -> list[Any]:
    """What stands at each position, given what stands at those of operands and constants."""
    found = list(given)
    for op, arguments, attributes in operations_of(swarm):
        found.append(apply(op, [found[place] for place in arguments], attributes))
    return found


@st.composite
def swarms(draw: st.DrawFn, elements: int, *, ops: Sequence[str] = OPS[1:], size: int = 12) -> dict[str, Any]:
    """A swarm on operands of so many elements."""
    constants = draw(st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0]), min_size=elements == 0, max_size=3))
    first = elements + len(constants)
    operations: list[Any] = []
    for op in draw(st.lists(st.sampled_from(ops), max_size=size)):
        places = st.integers(0, first + len(operations) - 1)
        if op in ("log", "log1p"):
            operations.append(("softplus", [draw(places)]))
            operations.append((op, [first + len(operations) - 1]))
        elif op in NARY:
            most = 2 if op == "max" else 4
            operations.append((op, draw(st.lists(places, min_size=1, max_size=most))))
        elif op == "power":
            operations.append((op, [draw(places)], draw(st.sampled_from([0.0, 1.0, 2.0, 3.0]))))
        else:
            operations.append((op, draw(st.lists(places, min_size=ARITIES[op], max_size=ARITIES[op]))))
    results = draw(st.lists(st.integers(0, first + len(operations) - 1), min_size=1, max_size=4))
    return columns(operations, results, constants)
