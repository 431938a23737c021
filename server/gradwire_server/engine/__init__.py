"""The engine: graph -> program -> job -> value and gradient. Numbers only; it knows neither gRPC nor protobuf."""

from gradwire_server.engine.compiler import compile_graph
from gradwire_server.engine.evaluation import Evaluation, run
from gradwire_server.engine.graph import Constant, Graph, Input, Node, Operation, Parameter, Reduction, Ties
from gradwire_server.engine.job import Job, Query, bind
from gradwire_server.engine.limits import Limits
from gradwire_server.engine.nonfinite import NonFinite, OperandValue, Phase
from gradwire_server.engine.ops import OPS, Op
from gradwire_server.engine.program import Program, Source

__all__ = [
    "OPS",
    "Constant",
    "Evaluation",
    "Graph",
    "Input",
    "Job",
    "Limits",
    "Node",
    "NonFinite",
    "Op",
    "OperandValue",
    "Operation",
    "Parameter",
    "Phase",
    "Program",
    "Query",
    "Reduction",
    "Source",
    "Ties",
    "bind",
    "compile_graph",
    "run",
]
