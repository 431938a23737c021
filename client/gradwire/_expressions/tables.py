"""Tables where expressions find what is made of them. Files that make it fill them when they are imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwire._arrays import dtype_of
from gradwire._errors import InvalidGraphError, ValueNeededError

UFUNCS: dict[np.ufunc, Callable[..., object]] = {}
"""What NumPy's functions of single elements build."""

FUNCTIONS: dict[Any, Callable[..., object]] = {}
"""What its other functions build."""

SHAPES: dict[Any, Callable[..., object]] = {}
"""What asks for the shape only, and builds nothing."""

NEEDING_VALUES: dict[Any, str] = {}
"""Functions of NumPy that need values, and what to write instead."""

UNBUILT: dict[Any, str] = {}
"""Functions of NumPy that no ops compose, and what to write instead."""

METHODS: dict[str, Callable[..., Any]] = {}
"""What operators and methods of expressions call, by its name."""

SHOWN: dict[str, Callable[[Any], str | None]] = {}
"""How a notebook shows an expression, by media type; None where it has the text alone."""


REDUCTIONS: dict[np.ufunc, Callable[..., object]] = {}
"""What ``np.add.reduce`` and its like build."""

ACCUMULATIONS: dict[np.ufunc, Callable[..., object]] = {}
"""What ``np.add.accumulate`` and its like build."""


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: Mapping[str, object]) -> Any:  # noqa: ANN401  (an expression)
    """What ``Expression.__array_ufunc__`` does."""
    called = f"np.{ufunc.__name__}"
    if ufunc in NEEDING_VALUES:
        raise needs_values(called, NEEDING_VALUES[ufunc])
    inputs = in_dtype(called, inputs, kwargs.get("dtype"))
    options = _needed(called, kwargs)
    if method == "reduce" and ufunc in REDUCTIONS:
        return REDUCTIONS[ufunc](*inputs, **{"axis": 0, **options})
    if method == "accumulate" and ufunc in ACCUMULATIONS:
        return ACCUMULATIONS[ufunc](*inputs, **{"axis": 0, **options})
    if method == "outer" and ufunc in UFUNCS and not options:
        left, right = inputs
        return UFUNCS[ufunc](np.reshape(left, (*np.shape(left), *[1] * np.ndim(right))), right)
    if method == "at":
        raise InvalidGraphError(
            f"{called}.at: expressions do not change; write x + gw.scatter_add(values, indices, size)"
        )
    if method != "__call__":
        raise unsupported(f"{called}.{method}")
    if "where" in options:
        raise InvalidGraphError(f"{called} with where= leaves elements undefined; write np.where(mask, {called}(x), y)")
    if ufunc not in UFUNCS:
        raise unsupported(called)
    if options:
        raise InvalidGraphError(f"{called} on an expression takes no {', '.join(options)}=; leave it out")
    return UFUNCS[ufunc](*inputs)


def apply_function(func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    """What ``Expression.__array_function__`` does."""
    called = _name_of(func)
    if func in NEEDING_VALUES:
        raise needs_values(called, NEEDING_VALUES[func])
    if func in UNBUILT:
        raise InvalidGraphError(f"{called} cannot build a graph: {UNBUILT[func]}")
    function = FUNCTIONS.get(func) or SHAPES.get(func)
    if function is None:
        raise unsupported(called)
    options = _needed(called, kwargs)
    if func in SHAPES and "dtype" in kwargs:
        options["dtype"] = kwargs["dtype"]
    else:
        args = in_dtype(called, args, kwargs.get("dtype"))
    try:
        return function(*args, **options)
    except InvalidGraphError:
        raise
    except TypeError as error:
        # What is behind the name of a function of ours.
        reason = str(error).rpartition("() ")[2]
        raise InvalidGraphError(f"{called} on an expression: it {reason}") from error


def absent(name: str) -> str:
    """What to say of an attribute that an expression has not."""
    if name == "dtype":
        return "an expression has no dtype: all numbers of a call have that of its arrays, or of dtype="
    # What begins with an underscore is looked for by programs: copy, torch.compile, notebooks.
    function = None if name.startswith("_") else getattr(np, name, None)
    if function in NEEDING_VALUES:
        return f"an expression has no {name}: {NEEDING_VALUES[function]}"
    if function in FUNCTIONS or function in UFUNCS:
        return f"an expression has no method {name}; write np.{name}(x)"
    return f"an expression has no attribute {name}; it has the common methods of NumPy's arrays"


def _needed(called: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call of NumPy but for those that say what is so anyway."""
    options = dict(kwargs)
    for name in ("out", "order", "subok", "like", "device", "optimize", "casting"):
        given = options.get(name, _NOTHING)
        if given in (None, "C", "K", "A") or (name in ("subok", "optimize", "casting") and given is not _NOTHING):
            del options[name]
    if "out" in options:
        raise InvalidGraphError(f"{called} with out=: an expression goes into no array; use what the call returns")
    options.pop("dtype", None)
    return options


def in_dtype(called: str, value: Any, dtype: object) -> Any:  # noqa: ANN401  (an operand, or several)
    """The operands of a call that names a dtype: masks as numbers, unless that is the one of masks.

    Raises:
        InvalidGraphError: It is none that expressions have.
    """
    if dtype is None:
        return value
    if isinstance(value, list | tuple):
        return type(value)([in_dtype(called, one, dtype) for one in value])
    mask = getattr(value, "is_mask", None)
    if mask is None:
        return value
    found = dtype_of(dtype)
    kind = None if found is None else found.kind
    if kind not in (set("biuf") if mask else {"f"}):
        raise InvalidGraphError(f"{called} with dtype={dtype!r:.64}: expressions are floats, of the dtype of the call")
    return value if kind == "b" else value.astype(float)


def needs_values(call: str, instead: str) -> ValueNeededError:
    """The error of a call of NumPy that would have to look at numbers."""
    return ValueNeededError(f"{call} of an expression, which has no value until it is evaluated: {instead}")


_NOTHING = object()

_SHORTEST = 4
"""Letters of a name that says something within another one."""


def unsupported(call: str) -> InvalidGraphError:
    """The error of a call of NumPy that builds nothing."""
    own = call.removeprefix("np.").rpartition(".")[2]
    names = {_name_of(function): function.__name__ for function in (*UFUNCS, *FUNCTIONS)}
    # Of names that are alike in letters alone, as cov and cos, nothing is near.
    near = [called for called, name in names.items() if len(name) >= _SHORTEST and name in own]
    hint = f"there is {', '.join(sorted(near, key=len)[-3:])}; or compose" if near else "compose"
    return InvalidGraphError(f"{call} cannot build a graph; {hint} it of gw's functions, which dir(gw) lists")


def _name_of(function: Any) -> str:  # noqa: ANN401  (a function of NumPy)
    where = getattr(function, "__module__", None) or "numpy"
    return f"{where}.{function.__name__}".replace("numpy", "np", 1).replace("np._core", "np")
