"""What pictures need of a graph; everything else is the engine's to check."""

from __future__ import annotations

from gradwire._errors import GradwireError, InvalidGraphError
from gradwire.v1 import graph_pb2


def check(graph: graph_pb2.Graph, max_nodes: int, max_operands: int, what: str) -> None:
    """Refuse a graph that is too large to be seen, or whose nodes cannot be put in order.

    Args:
        graph: What is to be shown.
        max_nodes: Bound on its nodes.
        max_operands: Bound on the operands of all of them.
        what: Where it is to be shown, such as "a picture".

    Raises:
        GradwireError: It is too large.
        InvalidGraphError: It breaks a rule.
    """
    count, operands = len(graph.nodes), sum(len(operands_of(node)) for node in graph.nodes)
    if count > max_nodes or operands > max_operands:
        raise GradwireError(
            f"the graph has {count} nodes with {operands} operands; {what} shows at most {max_nodes} nodes with "
            f"{max_operands} operands"
        )
    for index, node in enumerate(graph.nodes):
        if node.WhichOneof("kind") is None:
            raise InvalidGraphError(f"nodes[{index}] has no kind set; a node is a source or an op")
        for operand in operands_of(node):
            if not operand < index:
                raise InvalidGraphError(
                    f"nodes[{index}] has operand {operand}; operands come before the nodes that use them"
                )
    if not graph.loss < count:
        raise InvalidGraphError(f"the loss is node {graph.loss}, but the graph has {count} nodes; counted from 0")


def operands_of(node: graph_pb2.Node) -> list[int]:
    """Indices of a node's operands."""
    box = getattr(node, node.WhichOneof("kind") or "constant")
    return list(getattr(box, "operands", ()))


def missing(error: ImportError) -> GradwireError:
    """What to say when a library for pictures is missing."""
    return GradwireError(f"pictures need {error.name}: pip install 'gradwire[pictures]'")
