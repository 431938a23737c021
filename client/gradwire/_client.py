"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack, overload

from gradwire._calls.computation import Computation, Loss, Options, Tracing
from gradwire._calls.deadline import Deadline
from gradwire._calls.derivatives import Derivative, HessianVector, Jacobian, VectorJacobian
from gradwire._calls.examples import Examples, examples
from gradwire._calls.graphs import Graphs
from gradwire._calls.queries import info, register
from gradwire._calls.results import CheckReport, Result, ServerInfo, Trace
from gradwire._calls.steps import perform
from gradwire._calls.stream import Stream
from gradwire._calls.untraced import untraced
from gradwire._expressions.expression import Expression
from gradwire._transports.address import LOCAL, Connection, address
from gradwire._transports.base import Transport
from gradwire.v1 import graph_pb2


@untraced
def connect(target: str, **options: Unpack[Connection]) -> Client:
    """A client of the server at ``target``; it connects at the first call.

    Args:
        target: ``"host:port"``, or another name that gRPC resolves, such as ``"dns:///gradwire:50051"``, whose
            addresses take turns; or ``"local"``, the engine in this process.
        **options: ``tls``, ``ca``, ``certificate``, ``key``, ``server_name``, ``token``, ``max_attempts`` and
            ``health_checks``; see ``gw.Connection``. With ``"local"`` they are checked all the same, so that a program
            may change its target alone.

    Raises:
        UsageError: The arguments make no sense, or ``"local"`` lacks the server's libraries.
    """
    to = address(target, **options)
    if to.target == LOCAL:
        from gradwire._transports.local import local_transport  # noqa: PLC0415  (other targets do not need it)

        return Client(local_transport())
    from gradwire._transports.grpc_blocking import GrpcTransport  # noqa: PLC0415  (gRPC takes long to import, also for who only writes graphs)

    return Client(GrpcTransport(to))


class ValueAndGrad:
    """A loss that a server evaluates and differentiates; made by ``client.value_and_grad``."""

    def __init__(self, transport: Transport, computation: Computation) -> None:
        self._transport = transport
        self._computation = computation

    @overload
    def __call__(self, *, timeout: float | None = None, **named: Any) -> tuple[Any, dict[str, Any]]: ...

    @overload
    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]: ...

    @untraced
    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]:
        """Loss and gradients for these arrays.

        Args:
            *arrays: The first arguments of a Python function, pytrees. Of an expression or graph: one mapping with what
                has no Python name.
            timeout: Seconds for the whole call. Default: no bound.
            **named: The array of each source: ``[*shape]``, or ``[N, *shape]`` of a per-example input. Of a function:
                its further arguments, arrays or dicts and dataclasses of arrays; a list is an array here. As
                ``examples`` also what ``client.examples`` made, in the place of per-example arrays.

        Returns:
            The loss (a scalar, or ``[N]`` if nothing is reduced), and the gradients: nested like the first positional
            argument; with names in ``wrt`` a tuple of them; without positional arguments by source in a dict.

        Raises:
            GradwireError: Whatever is wrong.
        """
        computation = self._computation
        result = self._transport.evaluate(computation, computation.values(arrays, named), Deadline(timeout))
        return computation.answer(result)

    @untraced
    def evaluate(self, *arrays: Any, timeout: float | None = None, **named: Any) -> Result:
        """The whole result, with outputs, the report of non-finite values, and timings; arguments as for a call."""
        return self._transport.evaluate(self._computation, self._computation.values(arrays, named), Deadline(timeout))


class Derived:
    """A derivative that a server computes; made by ``client.vjp``, ``client.jacobian`` and ``client.hvp``."""

    def __init__(self, transport: Transport, derivative: Derivative) -> None:
        self._transport = transport
        self._derivative = derivative

    @untraced
    def __call__(self, *arrays: Any, timeout: float | None = None, **named: Any) -> Any:  # noqa: ANN401  (nested like the arguments)
        """The derivative for these arrays, in at most ``timeout`` seconds."""
        values, finish = self._derivative.asked(arrays, named)
        return finish(self._transport.evaluate(self._derivative.computation, values, Deadline(timeout)))


class Client:
    """Calls to a server, or to the engine in this process; made by ``connect``.

    Safe to share among threads; may be made before a fork and used after it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._graphs = Graphs()

    @untraced
    def value_and_grad(self, loss: Loss, **options: Unpack[Options]) -> ValueAndGrad:
        """A callable that gives the loss and its gradients, as ``jax.value_and_grad`` does.

        ::

            def loss(params, x, y):
                return gw.squared_error(gw.dot(params["w"], x) + params["b"], y)


            step = client.value_and_grad(loss, per_example=("x", "y"))
            value, grads = step({"w": np.zeros(3), "b": 0.0}, x=features, y=targets)  # grads["w"], grads["b"]

        A function is traced once for all shapes of its arguments that it meets; it may call gw's functions and NumPy's.
        Its first positional argument is what is differentiated: a pytree, an array or any nesting of arrays in dicts,
        lists, tuples and dataclasses. All other arguments are data. ``wrt`` names others to differentiate in. Those in
        ``per_example`` have one more leading axis, of examples, of which the function sees one. Called by keyword
        alone, every argument is differentiated in but for those in ``inputs`` and ``per_example``. Arrays have the
        names of arguments, keys, indices and fields, such as ``params.layers.0.w``. Flags, text and functions among the
        arguments, such as ``train=True``, are no arrays: the function gets them as they are. So are fields of
        dataclasses with the metadata ``static=True``, whose values are hashable; in a dict, list or tuple they are an
        error.

        Args:
            loss: A Python function of arrays; or an expression, or a ``Graph`` of the contract.
            **options: All of them optional:

                reduction: How the losses of the examples become one: ``"mean"`` (default) or ``"sum"``; ``"none"``
                    gives N losses, and a gradient for each example.
                wrt: Names of arguments or sources to differentiate in; one name gives its gradient alone.
                per_example: Names of arguments with a leading axis of examples, or of leaves, such as ``"batch.x"``.
                inputs: Names of arguments that are data, where all are given by keyword.
                has_aux: Whether the function returns a pair, the loss and more, and a call ``((loss, more), grads)``.
                outputs: Of an expression, nodes to return too; ``evaluate`` has them.
                dtype: ``"float32"`` or ``"float64"``, to which arrays are cast. Default: that of the arrays.
                ties: ``"zero"`` (default) or ``"split"``: what the operands of a maximum get that are equal.
                reject_non_finite: Whether infinity or NaN raises ``NonFiniteError`` instead of being reported.

        Raises:
            InvalidGraphError: The graph breaks a rule.
            InvalidRequestError: An option is unknown.
        """
        return ValueAndGrad(self._transport, Computation(loss, graphs=self._graphs, **options))

    @untraced
    def examples(self, arrays: Mapping[str, Any] | None = None, /, **named: Any) -> Examples:
        """Arrays with an axis of examples that the server keeps, so that calls send only what changes.

        ::

            data = client.examples(phi=features, y=labels)
            value, grads = hinge(w=w0, examples=data[indices])

        A call takes them, or rows of them, for the per-example inputs of their names; names that it has no such input
        for are left alone. They travel at the first such call, and again where a server has forgotten them; results
        have the same bits as with the arrays themselves. The arrays are not copied, and those in mapped files not
        loaded as a whole: they must not change while they are used, for a server keeps the numbers that it was sent,
        and whatever does not come from there is read anew.

        Args:
            arrays: By name, for names that Python has not.
            **named: Arrays ``[N, *shape]``, or of a function's arguments dicts and dataclasses of them, as for a call.

        Raises:
            InvalidRequestError: They are no such arrays.
        """
        return examples(arrays, named)

    @untraced
    def vjp(self, out: Expression | Callable[..., Any], **options: Unpack[Options]) -> Derived:
        """A callable that gives a value and the product of a vector with its Jacobian: ``f(vector, *arrays, **named)``.

        The vector is shaped like the value, ``[N, *shape]`` where that depends on examples, whose products are summed
        unless the ``reduction`` is another. All other arguments are as for ``value_and_grad``.

        Args:
            out: An expression of any shape, or a function that returns one.
            **options: As for ``value_and_grad``.
        """
        return Derived(self._transport, VectorJacobian(out, options))

    @untraced
    def jacobian(self, out: Expression | Callable[..., Any], **options: Unpack[Options]) -> Derived:
        """A callable that gives the Jacobian of a value, ``[*value shape, *shape]`` in each source, in one call.

        Where the value depends on examples there is one more leading axis, of examples. Arguments are as for
        ``value_and_grad``, without a reduction.
        """
        return Derived(self._transport, Jacobian(out, options))

    @untraced
    def hvp(self, loss: Expression | Callable[..., Any], **options: Unpack[Options]) -> Derived:
        """A callable that gives the product of the Hessian of a loss with a vector: ``f(vector, *arrays, **named)``.

        The vector is nested like the first positional argument of a function; of an expression it is a mapping of
        arrays by name, and so are the products. All other arguments are as for ``value_and_grad``.
        """
        return Derived(self._transport, HessianVector(loss, options))

    @untraced
    def stream(self, loss: Loss, **options: Unpack[Options]) -> Stream:
        """A stream of calls of one loss, for training loops; use it in a ``with`` block.

        Arguments and errors as for ``value_and_grad``.
        """
        return self._transport.stream(Computation(loss, graphs=self._graphs, **options))

    @untraced
    def trace(
        self,
        loss: Loss,
        /,
        *arrays: Any,
        options: Options | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> Trace:
        """Every node's value and every edge's gradient, of ONE example: all arrays are ``[*shape]``.

        Args:
            loss: As for ``value_and_grad``.
            *arrays: As for a call.
            options: As for ``value_and_grad``, in a dict, for names of arrays have the keywords.
            timeout: Seconds for the whole call.
            **named: As for a call.
        """
        tracing = Tracing(loss, **(options or {}))
        return perform(tracing.trace(tracing.values(arrays, named)), self._transport.send, Deadline(timeout))

    @untraced
    def explain(
        self,
        loss: Loss,
        /,
        *arrays: Any,
        options: Options | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> Trace:
        """Trace one example and open its page in a browser; arguments as for ``trace``, whose result it returns."""
        trace = self.trace(loss, *arrays, options=options, timeout=timeout, **named)
        trace.show()
        return trace

    @untraced
    def check(
        self,
        loss: Loss,
        /,
        *arrays: Any,
        options: Options | None = None,
        step: float | None = None,
        tolerance: float | None = None,
        max_probes: int | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> CheckReport:
        """Compare the gradient with central finite differences, taken in float64.

        Args:
            loss: As for ``value_and_grad``.
            *arrays: As for a call.
            options: As for ``value_and_grad``, in a dict, for names of arrays have the keywords.
            step: Of the differences, relative to max(1, |x|). Default: the cube root of the machine epsilon. The report
                says where it is too large to tell (``step_too_large``).
            tolerance: Largest relative difference, beyond rounding. Default: 1e-6 of float64, 1e-3 of float32.
            max_probes: Elements to probe of each source. Default: 100.
            timeout: Seconds for the whole call.
            **named: As for a call.
        """
        computation = Computation(loss, **(options or {}))
        steps = computation.check(computation.values(arrays, named), step, tolerance, max_probes)
        return perform(steps, self._transport.send, Deadline(timeout))

    @untraced
    def register(self, loss: Expression | graph_pb2.Graph, *, ties: str = "zero", timeout: float | None = None) -> str:
        """Make a graph known to the server ahead of the first call, and return its id.

        Raises:
            InvalidGraphError: The graph breaks a rule.
        """
        return perform(register(loss, ties), self._transport.send, Deadline(timeout))

    @untraced
    def info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, ops and limits of the server."""
        return perform(info(), self._transport.send, Deadline(timeout))

    @untraced
    def close(self) -> None:
        """Let go of the connection; calls under way are cancelled."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
