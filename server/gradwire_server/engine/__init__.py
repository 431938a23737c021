"""The engine: graph -> program -> job -> value and gradient. Numbers only; it knows neither gRPC nor protobuf."""

from gradwire_server.engine.checking import Check, SourceCheck, bind_check, run_check
from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.collecting import no_full_collections
from gradwire_server.engine.compiler import compile_graph
from gradwire_server.engine.evaluation import Evaluation, run
from gradwire_server.engine.graph import Constant, Graph, Input, Node, Operation, Parameter, Reduction, Ties
from gradwire_server.engine.job import Job, bind
from gradwire_server.engine.kernels.warming import warm
from gradwire_server.engine.nodes import Nodes
from gradwire_server.engine.nonfinite import NonFinite, OperandValue, Phase
from gradwire_server.engine.ops import OPS, Op
from gradwire_server.engine.program import Program, Source
from gradwire_server.engine.query import Query
from gradwire_server.engine.threads import ONE, Threads, of_process
from gradwire_server.engine.tracing import EdgeTrace, NodeTrace, Trace, bind_trace, run_trace, trace
from gradwire_server.limits import Limits

__all__ = [
    "ONE",
    "OPS",
    "Check",
    "Checkpoint",
    "Constant",
    "EdgeTrace",
    "Evaluation",
    "Graph",
    "Input",
    "Job",
    "Limits",
    "Node",
    "NodeTrace",
    "Nodes",
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
    "SourceCheck",
    "Threads",
    "Ties",
    "Trace",
    "bind",
    "bind_check",
    "bind_trace",
    "checked",
    "compile_graph",
    "no_full_collections",
    "of_process",
    "run",
    "run_check",
    "run_trace",
    "trace",
    "unhurried",
    "warm",
]
