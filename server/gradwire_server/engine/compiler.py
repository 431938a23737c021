"""From a graph to a program: every rule checked, every shape worked out, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine import shapes
from gradwire_server.engine.applied import Applied
from gradwire_server.engine.canonical import graph_id
from gradwire_server.engine.checkpoints import BETWEEN_CHECKPOINTS, Checkpoint, checked, unhurried
from gradwire_server.engine.columns import Columns, columns_of
from gradwire_server.engine.graph import Constant, Graph, Input, Node, Operation, Shape, Ties
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.kernels import order
from gradwire_server.engine.nodes import Nodes
from gradwire_server.engine.ops import OPS, Op, OperandError, Spec, Step
from gradwire_server.engine.ops.scalars import CODES, POWER
from gradwire_server.engine.packing import pack
from gradwire_server.engine.program import Program, own_bytes, with_idle
from gradwire_server.errors import Findings, Reason, refuse, shown
from gradwire_server.limits import Limits, graph_too_large

FLOAT_BYTES = 8


def compile_graph(
    graph: Graph, limits: Limits, checkpoint: Checkpoint = unhurried, max_cache_bytes: int | None = None
) -> Program:
    """Check a graph and prepare it; ``checkpoint`` is called every few hundred nodes and may raise.

    With ``max_cache_bytes`` it must be such that it can be kept in them, which is mostly known before the work.

    Raises:
        Refusal: with every finding (INVALID_GRAPH, LIMIT_EXCEEDED). Paths start at the graph:
            ``nodes[17].mul.operands[1]``. Whatever ``checkpoint`` raises.
    """
    count = len(graph.nodes)
    if count == 0:
        raise refuse(Reason.INVALID_GRAPH, "the graph has no nodes; give at least the loss", "nodes")
    nodes = Nodes.of(graph.nodes)
    operations = [node for node in checked(nodes.others.values(), checkpoint) if isinstance(node, Operation)]
    packed = [OPS[node.op].packed(node.attributes) for node in checked(operations, checkpoint) if node.op in OPS]
    inside, arguments = sum(nodes for nodes, _ in packed), sum(arguments for _, arguments in packed)
    operands = len(nodes.operands) + arguments
    if count + inside > limits.max_nodes:
        raise graph_too_large("nodes", count + inside, limits.max_nodes, "max_nodes")
    if operands > limits.max_edges:
        raise graph_too_large("operands", operands, limits.max_edges, "max_edges")
    _check_kept(with_idle(own_bytes(nodes, inside, arguments)), max_cache_bytes)
    program = _Compiler(graph, nodes, limits, checkpoint).program()
    _check_kept(program.nbytes, max_cache_bytes)
    return program


def _check_kept(nbytes: int, limit: int | None) -> None:
    if limit is not None and nbytes > limit:
        raise refuse(
            Reason.LIMIT_EXCEEDED,
            f"the prepared graph takes about {nbytes} bytes; this server keeps at most {limit} (max_cache_bytes); send "
            "it with each request, for which it need not be kept, or a smaller one",
            found=nbytes,
            limit=limit,
            setting="max_cache_bytes",
        )


class _Compiler:
    def __init__(self, graph: Graph, nodes: Nodes, limits: Limits, checkpoint: Checkpoint) -> None:
        self.graph = graph
        self.nodes = nodes
        self.columns = columns_of(nodes, checkpoint)
        self.limits = limits
        self.checkpoint = checkpoint
        self.findings = Findings()
        count = len(nodes)
        self.scalar = np.zeros(count, np.bool_)
        """For each node, whether it is a float scalar."""
        self.shapes: list[Shape | None] = [()] * count
        """None where a finding left the shape unknown."""
        self.instructions: list[Instruction | None] = [None] * count
        self.attributes: dict[int, Mapping[str, Any]] = {}
        """In normal form, of nodes that have any."""
        self.names: dict[str, int] = {}
        self.fitting: set[Shape] = set()
        """Shapes of tensors that may be taken on."""

    def program(self) -> Program:
        nodes, columns = self.nodes, self.columns
        # Where a name is wrong, every node is looked at by itself.
        self.checkpoint()
        fitting = self._names_fit() and self.limits.max_tensor_bytes >= FLOAT_BYTES
        codes = columns.codes if fitting else np.zeros_like(columns.codes)
        index, last = 0, -BETWEEN_CHECKPOINTS
        while True:
            # Operations on scalars have nothing that could be wrong but their operands.
            index = order.find_scalars(codes, columns.starts, columns.operands, self.scalar, index)
            if index - last >= BETWEEN_CHECKPOINTS:
                last = index
                self.checkpoint()
            if index == len(nodes):
                break
            self._node(index, nodes[index])
            index += 1
        self._loss()
        self.findings.check()
        known = tuple(shape for shape in self.shapes if shape is not None)
        scalars = np.flatnonzero(self.scalar & (columns.codes > 0))
        for index in np.flatnonzero(columns.codes == POWER).tolist():
            self.attributes[index] = {"exponent": float(columns.exponents[index])}
        graph = replace(self.graph, nodes=nodes)
        identity = graph_id(nodes, graph.loss, graph.ties, self.attributes, self.checkpoint)
        self.checkpoint()
        applied = Applied(self.instructions, partial(_on_scalars, columns, graph.ties, scalars))
        packed = pack(graph, columns, scalars, known, applied, identity, self.checkpoint)
        self.checkpoint()
        program = Program(graph, known, applied, identity, self.checkpoint, columns, packed)
        runs = program if packed is None else packed.program
        # So that the first request finds it.
        wrt = tuple(source.node for source in runs.parameters)
        runs.plan(wrt, (), separate=False, checkpoint=self.checkpoint)
        return program

    def _node(self, index: int, node: Node) -> None:
        self._name(index, node)
        shape = self._operation(index, node) if isinstance(node, Operation) else tuple(node.shape)
        shape = self.shapes[index] = self._fitting(index, node, shape)
        self.scalar[index] = shape == () and not (isinstance(node, Input | Constant) and node.integer)

    def _names_fit(self) -> bool:
        names = [name for name in self.nodes.names if name]
        longest = max(map(len, names), default=0)
        unique = len(set(names)) == len(names)
        return unique and longest <= self.limits.max_name_length and all(map(str.isprintable, names))

    def _find(self, message: str, path: str, reason: Reason = Reason.INVALID_GRAPH, **metadata: object) -> None:
        self.findings.add(reason, message, path, **metadata)

    def _describe(self, index: int, node: Node) -> str:
        kind = node.op if isinstance(node, Operation) else type(node).__name__.lower()
        where = f"nodes[{index}], {kind}"
        return f"node {shown(node.name)} ({where})" if node.name else f"node {kind}_{index} (nodes[{index}])"

    def _name(self, index: int, node: Node) -> None:
        name, path = node.name, f"nodes[{index}].name"
        if not name:
            if not isinstance(node, Operation | Constant):
                kind = type(node).__name__.lower()
                self._find(f"nodes[{index}] is a {kind} without a name; requests supply it by its name", path)
            return
        who = f"node {shown(name)} (nodes[{index}])"
        if len(name) > self.limits.max_name_length:
            self._find(
                f"{who} has a name of {len(name)} characters; at most {self.limits.max_name_length} are allowed", path
            )
        elif not name.isprintable():
            self._find(f"{who} has a name with unprintable characters; use printable ones", path)
        first = self.names.setdefault(name, index)
        if first != index:
            self._find(f"{who} has the name of nodes[{first}]; names are unique", path)

    def _operation(self, index: int, node: Operation) -> Shape | None:
        path = f"nodes[{index}].{node.op}"
        op = OPS.get(node.op)
        if op is None:
            self._find(
                f"{self._describe(index, node)} has no op of this server; it has {', '.join(OPS)}", f"nodes[{index}]"
            )
            return None
        if not self._operands_fit(index, node, op, path):
            return None
        specs = self._specs(index, node, op, path)
        if specs is None:
            return None
        try:
            shape, normal = op.infer(specs, node.attributes)
        except OperandError as error:
            field = f".{error.field}" if error.field else ""
            operands = ", ".join(self._brief(i) for i in node.operands[:4]) or "no operands"
            self._find(f"{self._describe(index, node)} of {operands}: {error}", f"{path}{field}")
            return None
        if normal:
            self.attributes[index] = normal
        known = [spec.shape for spec in specs]
        step = Step(normal, self.graph.ties, op.prepare(normal, known))
        inner = op.inner(step)
        if inner and not self._takes(index, node, inner, f"has {inner} positions,"):
            return None
        self.instructions[index] = Instruction(
            node=index,
            op=op,
            operands=node.operands,
            step=step,
            work=op.work(step, known, shape),
        )
        return shape

    def _brief(self, index: int) -> str:
        node = self.nodes[index]
        return shown(node.name) if node.name else f"nodes[{index}]"

    def _operands_fit(self, index: int, node: Operation, op: Op, path: str) -> bool:
        found = len(node.operands)
        most = op.max_operands
        if found < op.min_operands or (most is not None and found > most):
            expected = f"{op.min_operands} or more" if most is None else f"exactly {most}"
            if most not in (None, op.min_operands):
                expected = f"{op.min_operands} to {most}"
            self._find(
                f"{self._describe(index, node)} has {found} operands; {op.name} takes {expected}", f"{path}.operands"
            )
            return False
        fine = True
        for slot, operand in enumerate(node.operands):
            if 0 <= operand < index:
                continue
            fine = False
            where = f"{path}.operands[{slot}]"
            who = f"{self._describe(index, node)}: operand {slot} is index {operand}"
            count = len(self.nodes)
            if operand >= count or operand < 0:
                self._find(f"{who}, past the end of {count} nodes; give an index below {index}", where)
            else:
                what = "the node itself" if operand == index else "a later node"
                self._find(f"{who}, {what}; operands come first, so give an index below {index}", where)
        return fine

    def _specs(self, index: int, node: Operation, op: Op, path: str) -> list[Spec] | None:
        """What is known of the operands; None if a finding, here or earlier, left something unknown."""
        specs: list[Spec] = []
        fine = True
        for slot, operand in enumerate(node.operands):
            shape = self.shapes[operand]
            source = self.nodes[operand]
            integer = isinstance(source, Input | Constant) and source.integer
            if integer != (slot in op.index_operands):
                fine = False
                have, want = ("int64", "a float tensor") if integer else ("floats", "an int64 input or constant")
                self._find(
                    f"{self._describe(index, node)}: operand {slot} is {self._brief(operand)} of {have}; "
                    f"{op.name} takes {want} there",
                    f"{path}.operands[{slot}]",
                )
            if shape is None:
                fine = False
                continue
            specs.append(Spec(shape, integer, source.value if isinstance(source, Constant) else None))
        return specs if fine else None

    def _fitting(self, index: int, node: Node, shape: Shape | None) -> Shape | None:
        """The shape, if a tensor of it may be taken on."""
        if shape is None or shape in self.fitting:
            return shape
        path = f"nodes[{index}]"
        wrong = shapes.problem(shape, self.limits.max_rank)
        if wrong is not None:
            field = "" if isinstance(node, Operation) else f".{type(node).__name__.lower()}.shape"
            self._find(f"{self._describe(index, node)} {wrong}", f"{path}{field}")
            return None
        if not self._takes(index, node, shapes.size(shape), f"has shape {shapes.text(shape)},"):
            return None
        self.fitting.add(shape)
        return shape

    def _takes(self, index: int, node: Node, elements: int, what: str) -> bool:
        """Whether so many numbers may be taken on for a node."""
        needs = elements * FLOAT_BYTES
        if needs <= self.limits.max_tensor_bytes:
            return True
        self._find(
            f"{self._describe(index, node)} {what} which takes {needs} bytes; "
            f"this server takes at most {self.limits.max_tensor_bytes} a tensor (max_tensor_bytes)",
            f"nodes[{index}]",
            Reason.LIMIT_EXCEEDED,
            found=needs,
            limit=self.limits.max_tensor_bytes,
            setting="max_tensor_bytes",
        )
        return False

    def _loss(self) -> None:
        loss, count = self.graph.loss, len(self.nodes)
        if not 0 <= loss < count:
            self._find(f"the loss is index {loss}, past the end of {count} nodes", "loss")
            return
        node, shape = self.nodes[loss], self.shapes[loss]
        if isinstance(node, Input | Constant) and node.integer:
            self._find(f"the loss, {self._describe(loss, node)}, holds int64 indices; it must be a float", "loss")
        elif shape is not None and shape != ():
            self._find(
                f"the loss, {self._describe(loss, node)}, has shape {shapes.text(shape)} for one example; "
                "it must have shape (), so reduce it first (sum, reduce_max, reshape)",
                "loss",
            )


def _on_scalars(columns: Columns, ties: Ties, nodes: NDArray[np.integer]) -> Iterator[Instruction]:
    """The instructions of these nodes, which are operations on scalars."""
    known: dict[object, Instruction] = {}
    operands = columns.operands.tolist()
    of_each = columns.codes, columns.exponents, columns.starts, columns.starts[1:]
    for index, code, exponent, start, stop in zip(nodes.tolist(), *(c[nodes].tolist() for c in of_each), strict=True):
        key = code, exponent, stop - start
        like = known.get(key)
        if like is None:
            op = OPS[CODES[code]]
            step = Step({"exponent": exponent} if code == POWER else {}, ties)
            work = op.work(step, [()] * (stop - start), ())
            like = known[key] = Instruction(index, op, (), step, work)
        yield Instruction(index, like.op, tuple(operands[start:stop]), like.step, like.work)
