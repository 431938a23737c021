"""Every node looked at in turn: its name, its operands, its shape. Elementwise operations take no step of Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import BETWEEN_CHECKPOINTS, Checkpoint
from gradwire_server.engine.graph import shapes
from gradwire_server.engine.graph.graph import Attributes, Graph, Input, Shape
from gradwire_server.engine.graph.opcodes import ELEMENTWISE, Opcode
from gradwire_server.engine.graph.ops import OPS, Op
from gradwire_server.engine.graph.rules import OperandError, Spec
from gradwire_server.engine.graph.traversal import ANY, infer_elementwise
from gradwire_server.errors import Findings, Reason, refuse, shown
from gradwire_server.limits import Limits, graph_too_large

FLOAT_BYTES = 8

UNKNOWN = -1
"""Shape id of a node that a finding left without a shape."""

T = TypeVar("T", int, NDArray[np.int32])

_BY_CODE: Mapping[int, Op] = {op.opcode: op for op in OPS.values()}

_ARITIES = np.zeros(max(Opcode) + 1, np.int8)
"""By opcode, how many operands elementwise operations take."""
for _code in ELEMENTWISE:
    _ARITIES[_code] = _BY_CODE[_code].max_operands or ANY


class Inferred(NamedTuple):
    """What follows from the nodes of a graph that has nothing wrong about it."""

    shape_ids: NDArray[np.int32]
    """[nodes]."""
    shape_table: tuple[Shape, ...]
    """Distinct shapes; the first is ()."""
    attributes: Mapping[int, Attributes]
    """In normal form, of nodes that have any."""


def infer(graph: Graph, limits: Limits, checkpoint: Checkpoint, further: Mapping[int, Op] | None = None) -> Inferred:
    """Check all nodes and the loss; ``further`` has ops, by opcode, for nodes that stand for something else.

    Raises:
        Refusal: as ``check_graph`` says.
    """
    count = len(graph)
    if count == 0:
        raise refuse(Reason.INVALID_GRAPH, "the graph has no nodes; give at least the loss", "nodes")
    if graph.origins is None:
        # Otherwise there are nodes that count for nothing, and the codec has counted.
        if count > limits.max_nodes:
            raise graph_too_large("nodes", count, limits.max_nodes, "max_nodes")
        if len(graph.operands) > limits.max_edges:
            raise graph_too_large("operands", len(graph.operands), limits.max_edges, "max_edges")
    return _Checker(graph, limits, checkpoint, {**_BY_CODE, **(further or {})}).run()


class _Checker:
    def __init__(self, graph: Graph, limits: Limits, checkpoint: Checkpoint, ops: Mapping[int, Op]) -> None:
        self._graph = graph
        self._limits = limits
        self._checkpoint = checkpoint
        self._ops = ops
        self._findings = Findings()
        self._shape_ids = np.zeros(len(graph), np.int32)
        """[nodes]; those of row indices are below UNKNOWN, as ``_flipped`` has them."""
        self._table: dict[Shape, int] = {(): 0}
        self._specs = [Spec(())]
        """By shape id."""
        self._attributes: dict[int, Attributes] = {}

    def run(self) -> Inferred:
        graph, ids = self._graph, self._shape_ids
        scalar = (graph.opcodes == Opcode.CONSTANT) | (graph.opcodes == Opcode.ELEMENT)
        scalar[list(graph.contents)] = False
        named = self._wrong_names()
        visits, wrong, index = 0, next(named, None), 0
        columns = graph.opcodes, graph.starts, graph.operands, graph.numbers, ids, scalar, _ARITIES
        while True:
            index = infer_elementwise(*columns, index)
            while wrong is not None and wrong[0] <= index:
                self._find(wrong[1], f"nodes[{graph.sent(wrong[0])}].name")
                wrong = next(named, None)
            if index == len(graph):
                break
            if visits % BETWEEN_CHECKPOINTS == 0:
                self._checkpoint()
            visits += 1
            ids[index] = self._visit(index)
            index += 1
        self._loss()
        self._findings.check()
        return Inferred(np.where(ids < UNKNOWN, _flipped(ids), ids), tuple(self._table), self._attributes)

    def _find(self, message: str, path: str, reason: Reason = Reason.INVALID_GRAPH, **metadata: object) -> None:
        self._findings.add(reason, message, path, **metadata)

    def _describe(self, index: int) -> str:
        name, kind, sent = self._graph.names.get(index), self._graph.kind(index), self._graph.sent(index)
        return f"node {shown(name)} (nodes[{sent}], {kind})" if name else f"node {kind}_{sent} (nodes[{sent}])"

    def _brief(self, index: int) -> str:
        name = self._graph.names.get(index)
        return shown(name) if name else f"nodes[{self._graph.sent(index)}]"

    def _wrong_names(self) -> Iterator[tuple[int, str]]:
        """Nodes, in ascending order, and what is wrong with their names."""
        names, most = self._graph.names, self._limits.max_name_length
        listed = names.values()
        short = max(map(len, listed), default=0) <= most
        self._checkpoint()
        if short and len(set(listed)) == len(names) and all(map(str.isprintable, listed)):
            return
        self._checkpoint()
        firsts: dict[str, int] = {}
        for index, name in sorted(names.items()):
            who = f"node {shown(name)} (nodes[{self._graph.sent(index)}])"
            if len(name) > most:
                yield index, f"{who} has a name of {len(name)} characters; at most {most} are allowed"
            elif not name.isprintable():
                yield index, f"{who} has a name with unprintable characters; use printable ones"
            first = firsts.setdefault(name, index)
            if first != index:
                yield index, f"{who} has the name of nodes[{self._graph.sent(first)}]; names are unique"

    def _visit(self, index: int) -> int:
        """The shape id of a node that needs a look."""
        graph = self._graph
        op = self._ops.get(int(graph.opcodes[index]))
        if op is not None:
            return self._fitting(index, self._operation(index, op))
        content = graph.contents.get(index)
        if content is None:
            # Only the codec makes such vectors, of scalars.
            return self._fitting(index, (int(graph.starts[index + 1] - graph.starts[index]),))
        if not isinstance(content, np.ndarray) and not content.name:
            who = f"nodes[{graph.sent(index)}]"
            what = f"{who} is a {graph.kind(index)} without a name; requests supply it by its name"
            self._find(what, f"{who}.name")
        found = self._fitting(index, content.shape)
        return _flipped(found) if found != UNKNOWN and self._holds_rows(index) else found

    def _holds_rows(self, index: int) -> bool:
        content = self._graph.contents.get(index)
        if isinstance(content, np.ndarray):
            return content.dtype == np.int64
        return isinstance(content, Input) and content.integer

    def _operation(self, index: int, op: Op) -> Shape | None:
        graph, path = self._graph, f"nodes[{self._graph.sent(index)}].{op.name}"
        own = graph.operands[graph.starts[index] : graph.starts[index + 1]]
        operands = own.tolist()
        if not self._fit(index, operands, op, path):
            return None
        specs = self._known(index, operands, self._shape_ids[own].tolist(), op, path)
        if specs is None:
            return None
        attributes = graph.attributes.get(index)
        if attributes is None:
            attributes = {"exponent": float(graph.numbers[index])} if op.opcode is Opcode.POWER else {}
        try:
            shape, normal = op.infer(specs, attributes)
        except OperandError as error:
            field = f".{error.field}" if error.field else ""
            found = ", ".join(map(self._brief, operands[:4])) or "no operands"
            self._find(f"{self._describe(index)} of {found}: {error}", f"{path}{field}")
            return None
        if normal:
            self._attributes[index] = normal
        return shape

    def _fit(self, index: int, operands: Sequence[int], op: Op, path: str) -> bool:
        """Whether there are as many operands as there should be, all of them earlier nodes."""
        found, most = len(operands), op.max_operands
        if found < op.min_operands or (most is not None and found > most):
            expected = f"{op.min_operands} or more" if most is None else f"exactly {most}"
            self._find(f"{self._describe(index)} has {found} operands; {op.name} takes {expected}", f"{path}.operands")
            return False
        if not operands or 0 <= min(operands) <= max(operands) < index:
            return True
        count = len(self._graph)
        for slot, bits in enumerate(operands):
            operand = bits % 2**32
            if operand < index:
                continue
            where = f"{path}.operands[{slot}]"
            who = f"{self._describe(index)}: operand {slot} is index {operand}"
            if operand >= count:
                self._find(f"{who}, past the end of {count} nodes; give an index below {index}", where)
            else:
                what = "the node itself" if operand == index else "a later node"
                self._find(f"{who}, {what}; operands come first, so give an index below {index}", where)
        return False

    def _known(self, index: int, operands: list[int], ids: list[int], op: Op, path: str) -> list[Spec] | None:
        """What is known of the operands; None if a finding, here or earlier, left something unknown."""
        fine = UNKNOWN not in ids
        for slot, shape_id in enumerate(ids):
            integer = shape_id < UNKNOWN or (shape_id == UNKNOWN and self._holds_rows(operands[slot]))
            if integer == (slot in op.index_operands):
                continue
            fine = False
            have, want = ("int64", "a float tensor") if integer else ("floats", "an int64 input or constant")
            self._find(
                f"{self._describe(index)}: operand {slot} is {self._brief(operands[slot])} of {have}; "
                f"{op.name} takes {want} there",
                f"{path}.operands[{slot}]",
            )
        if not fine:
            return None
        specs = [self._specs[shape_id if shape_id >= 0 else _flipped(shape_id)] for shape_id in ids]
        for slot in op.index_operands:
            content = self._graph.contents.get(operands[slot])
            if isinstance(content, np.ndarray):
                specs[slot] = Spec(content.shape, content)
        return specs

    def _fitting(self, index: int, shape: Shape | None) -> int:
        """The id of a shape, if a tensor of it may be taken on."""
        if shape is None:
            return UNKNOWN
        known = self._table.get(shape)
        if known is not None:
            return known
        sent = self._graph.sent(index)
        wrong = shapes.problem(shape, self._limits.max_rank)
        if wrong is not None:
            content = self._graph.contents.get(index)
            field = "" if content is None else f".{self._graph.kind(index)}.shape"
            self._find(f"{self._describe(index)} {wrong}", f"nodes[{sent}]{field}")
            return UNKNOWN
        needs, most = shapes.size(shape) * FLOAT_BYTES, self._limits.max_tensor_bytes
        if needs > most:
            self._find(
                f"{self._describe(index)} has shape {shapes.text(shape)}, which takes {needs} bytes; "
                f"this server takes at most {most} a tensor (max_tensor_bytes)",
                f"nodes[{sent}]",
                Reason.LIMIT_EXCEEDED,
                found=needs,
                limit=most,
                setting="max_tensor_bytes",
            )
            return UNKNOWN
        self._specs.append(Spec(shape))
        return self._table.setdefault(shape, len(self._table))

    def _loss(self) -> None:
        loss, count = self._graph.loss, len(self._graph)
        if not 0 <= loss < count:
            self._find(f"the loss is index {loss}, past the end of {count} nodes", "loss")
            return
        known = self._shape_ids[loss]
        if self._holds_rows(loss):
            self._find(f"the loss, {self._describe(loss)}, holds int64 indices; it must be a float", "loss")
        elif known > 0:
            self._find(
                f"the loss, {self._describe(loss)}, has shape {shapes.text(self._specs[known].shape)} for one example; "
                "it must have shape (), so reduce it first (sum, reduce_max, reshape)",
                "loss",
            )


def _flipped(shape_id: T) -> T:
    """Shape id -> that of row indices, and back."""
    return UNKNOWN - 1 - shape_id
