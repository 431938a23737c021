"""The engine: a graph, code, a machine beside a reference. Numbers only; it knows neither gRPC nor protobuf."""

from gradwire_server.engine2.run.evaluation import Evaluation, run
from gradwire_server.engine2.run.job import Job, bind
from gradwire_server.engine2.run.program import Program, compile_graph
from gradwire_server.engine2.run.query import Query
