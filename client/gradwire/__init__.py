"""gradwire: write a loss as an expression, and get its value and gradients from a server.

import gradwire as gw

w = gw.parameter("w", shape=(30,))
phi = gw.input("phi", shape=(30,), per_example=True)
y = gw.input("y", per_example=True)
loss = gw.maximum(0, 1 - gw.dot(w, phi) * y)

with gw.connect("localhost:50051") as client:
    hinge = client.value_and_grad(loss)
    value, grads = hinge(w=w0, phi=features, y=labels)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gradwire._calls.computation import Options
from gradwire._calls.examples import Examples
from gradwire._calls.gradients import gradient
from gradwire._calls.raveling import ravel_pytree
from gradwire._calls.results import CheckReport, EdgeTrace, NodeTrace, NonFinite, Result, ServerInfo, SourceCheck, Trace
from gradwire._calls.stream import Stream
from gradwire._client import Client, Derived, ValueAndGrad, connect
from gradwire._errors import (
    AuthenticationError,
    CancelledError,
    DeadlineExceededError,
    ExamplesNotFoundError,
    Finding,
    GradwireError,
    GraphNotFoundError,
    InvalidGraphError,
    InvalidRequestError,
    LimitExceededError,
    NonFiniteError,
    OverloadedError,
    ServerError,
    TLSError,
    UnavailableError,
    UnimplementedError,
    UsageError,
    ValueNeededError,
)
from gradwire._errors import lacking as _lacking
from gradwire._expressions import functions as _functions
from gradwire._expressions import numpy_functions as _numpy_functions  # noqa: F401  (it fills a table)
from gradwire._expressions import numpy_refusals as _numpy_refusals  # noqa: F401  (as above)
from gradwire._expressions.expression import Expression
from gradwire._expressions.functions import *  # noqa: F403  (its __all__ is the list)
from gradwire._graphs.graph import graph
from gradwire._pictures import notebook as _notebook  # noqa: F401  (as above)
from gradwire._transports.address import Connection
from gradwire._watching import GradientWarning, Watched, watch

__all__ = [
    "AsyncClient",
    "AsyncDerived",
    "AsyncStream",
    "AsyncValueAndGrad",
    "AuthenticationError",
    "CancelledError",
    "CheckReport",
    "Client",
    "Connection",
    "DeadlineExceededError",
    "Derived",
    "EdgeTrace",
    "Examples",
    "ExamplesNotFoundError",
    "Expression",
    "Finding",
    "GradientWarning",
    "GradwireError",
    "GraphNotFoundError",
    "InvalidGraphError",
    "InvalidRequestError",
    "LimitExceededError",
    "NodeTrace",
    "NonFinite",
    "NonFiniteError",
    "Options",
    "OverloadedError",
    "Result",
    "ServerError",
    "ServerInfo",
    "SourceCheck",
    "Stream",
    "TLSError",
    "Trace",
    "UnavailableError",
    "UnimplementedError",
    "UsageError",
    "ValueAndGrad",
    "ValueNeededError",
    "Watched",
    "connect",
    "from_jax",
    "from_onnx",
    "gradient",
    "graph",
    "ravel_pytree",
    "save_picture",
    "watch",
]
__all__ += _functions.__all__

# What only some programs need is imported when it is first asked for: it takes as long as all the rest.
if TYPE_CHECKING:
    from gradwire._async_client import AsyncClient, AsyncDerived, AsyncStream, AsyncValueAndGrad
    from gradwire._pictures.saving import save_picture
    from gradwire_imports.from_jax import from_jax
    from gradwire_imports.from_onnx import from_onnx
else:
    _LATER = {
        "AsyncClient": "gradwire._async_client",
        "AsyncDerived": "gradwire._async_client",
        "AsyncStream": "gradwire._async_client",
        "AsyncValueAndGrad": "gradwire._async_client",
        "from_jax": "gradwire_imports.from_jax",
        "from_onnx": "gradwire_imports.from_onnx",
        "save_picture": "gradwire._pictures.saving",
    }

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            own = hasattr(Client, name) and not name.startswith("_")
            hint = f"; it is a method of a client: gw.connect(target).{name}" if own else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        try:
            found = getattr(import_module(_LATER[name]), name)
        except ModuleNotFoundError as error:
            if not name.startswith("from_"):
                raise
            raise _lacking(error, name.removeprefix("from_")) from None
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})
