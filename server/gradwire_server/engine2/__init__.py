"""The engine: a graph, code, a machine beside a reference. Numbers only; it knows neither gRPC nor protobuf."""

from gradwire_server.engine2.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine2.explain.check import SourceCheck, settings_of
from gradwire_server.engine2.explain.nonfinite import NonFinite, OperandValue, Phase
from gradwire_server.engine2.explain.trace import EdgeTrace, NodeTrace, Trace, elements_of_trace
from gradwire_server.engine2.graph.checking import Source
from gradwire_server.engine2.graph.graph import Graph, Input, Parameter, Reduction, Ties
from gradwire_server.engine2.graph.ops import OPS, Op
from gradwire_server.engine2.machine.one_thread import ONE_BLAS_THREAD
from gradwire_server.engine2.machine.warming import warm
from gradwire_server.engine2.run.checking import Check, bind_check, run_check
from gradwire_server.engine2.run.evaluation import Evaluation, run
from gradwire_server.engine2.run.job import Job, bind
from gradwire_server.engine2.run.program import Program, compile_graph
from gradwire_server.engine2.run.query import Query
from gradwire_server.engine2.run.threads import ONE, Threads, of_process
from gradwire_server.engine2.run.tracing import TraceJob, bind_trace, run_trace
from gradwire_server.limits import Limits

__all__ = [
    "ONE",
    "ONE_BLAS_THREAD",
    "OPS",
    "Check",
    "Checkpoint",
    "EdgeTrace",
    "Evaluation",
    "Graph",
    "Input",
    "Job",
    "Limits",
    "NodeTrace",
    "NonFinite",
    "Op",
    "OperandValue",
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
    "TraceJob",
    "bind",
    "bind_check",
    "bind_trace",
    "checked",
    "compile_graph",
    "elements_of_trace",
    "of_process",
    "run",
    "run_check",
    "run_trace",
    "settings_of",
    "unhurried",
    "warm",
]
