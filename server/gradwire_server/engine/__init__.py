"""The engine: a graph, code, a machine beside a reference. Numbers only; it knows neither gRPC nor protobuf.

Words, in the order in which a request meets them:

node      a source (parameter, input, constant) or an operation; its opcode says what it does, its operands are nodes
element   one number of a tensor; shapes and sizes are those of one example
gradient  of the loss, in a node: what the nodes that read it contribute, added up; the reference calls it ``g``
vjp       what a node contributes to the gradients of its operands: its own gradient times local derivatives
question  what is asked of a graph: gradients in which sources, which outputs, whether for each example
code      rows for a question, and the sizes of buffers; it holds for any arrays and any number of examples
row       some integers that say one step: its kind, lengths, strides, references
stage     nodes that are computed together: once for what examples share, or for each tile
buffer    memory that rows name by number; a place in it is where a value is, and in the next one its gradient
view      where the elements of a tensor are: buffer, place, offset, strides, distance of two examples
swarm     the scalars of a stage; a segment of it is one row, a group in that applies one opcode
leaf      a scalar that a swarm reads and something else gives
lane      an example of the tile that runs; a tensor has its lanes one after another, a swarm has lanes side by side
tile      so many examples as keep all they need in a core's cache; they run together
chunk     tiles that one thread does in their order, and whose gradients have one sum
layout    how a request is cut into tiles and chunks, and what time and memory that takes
room      the buffers of one request at a time; bound is what requests of one kind share, idle rooms included
"""

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.explain.check import SourceCheck, settings_of
from gradwire_server.engine.explain.nonfinite import NonFinite, OperandValue, Phase
from gradwire_server.engine.explain.trace import EdgeTrace, NodeTrace, Trace
from gradwire_server.engine.graph.checking import Source
from gradwire_server.engine.graph.graph import Graph, Input, Parameter, Reduction, Ties
from gradwire_server.engine.graph.ops import OPS, Op
from gradwire_server.engine.machine.one_thread import ONE_BLAS_THREAD
from gradwire_server.engine.machine.warming import warm
from gradwire_server.engine.run.checking import Check, bind_check, run_check
from gradwire_server.engine.run.evaluation import Evaluation, run
from gradwire_server.engine.run.job import Fit, Job, bind
from gradwire_server.engine.run.program import Program, compile_graph
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.threads import ONE, Threads, of_process
from gradwire_server.engine.run.tracing import TraceJob, bind_trace, run_trace
from gradwire_server.limits import Limits

__all__ = [
    "ONE",
    "ONE_BLAS_THREAD",
    "OPS",
    "Check",
    "Checkpoint",
    "EdgeTrace",
    "Evaluation",
    "Fit",
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
    "of_process",
    "run",
    "run_check",
    "run_trace",
    "settings_of",
    "unhurried",
    "warm",
]
