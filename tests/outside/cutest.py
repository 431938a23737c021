"""The problems of CUTEst as sif2jax has them, of which only those are imported that are wanted."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

FOLDER = "sif2jax.cutest._unconstrained_minimisation"


def unconstrained() -> dict[str, Any]:
    """All unconstrained problems by name.

    sif2jax imports every problem that it has, and one of the constrained ones fills a matrix number by number, for two
    minutes. So the packages above those of this kind are made without what their ``__init__.py`` would run.
    """
    for name in ("sif2jax", "sif2jax.cutest"):
        spec = find_spec(name)
        assert spec is not None
        sys.modules[name] = module_from_spec(spec)
    problems = import_module(FOLDER).unconstrained_minimisation_problems
    return {type(problem).__name__: problem for problem in problems}
