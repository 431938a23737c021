"""OpenMDAO calls a function of the SDK: values, partial derivatives, and an optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmdao.api as om
import pytest

import gradwire as gw
from gradwire.openmdao import Component

SHAPES: dict[str, tuple[int, ...]] = {"x": (), "w": (3,), "m": (2, 3), "unused": (2,)}


def outputs(x: Any, w: Any, m: Any, unused: Any = None) -> Any:
    return {"cost": (x - 3.0) ** 2 + x * np.sum(w) + np.sum(w**2), "stress": np.tanh(m @ w) * x}


def problem(client: gw.Client) -> Any:
    made = om.Problem(reports=False)
    component = Component(client, outputs, SHAPES, {"x": "m", "cost": "m**2"})
    made.model.add_subsystem("loss", component, promotes=["*"])
    return made


def test_values_and_partials(client: gw.Client) -> None:
    made = problem(client)
    made.setup()
    given = {"x": 2.0, "w": np.array([0.1, -0.2, 0.3]), "m": np.arange(6.0).reshape(2, 3) / 6}
    for name, value in given.items():
        made.set_val(name, value)
    made.run_model()
    for name, expected in outputs(**given).items():
        np.testing.assert_allclose(made.get_val(name).ravel(), np.ravel(expected), rtol=1e-14)
    checked = made.check_partials(out_stream=None, method="fd", form="central")["loss"]
    assert sorted(checked) == [("cost", "w"), ("cost", "x"), ("stress", "m"), ("stress", "w"), ("stress", "x")]
    for pair, own in checked.items():
        np.testing.assert_allclose(own["J_fwd"], own["J_fd"], atol=1e-7, err_msg=str(pair))
    assert made.model.get_io_metadata()["loss.x"]["units"] == "m"


def test_an_optimizer_of_openmdao_finds_the_optimum(client: gw.Client) -> None:
    made = problem(client)
    made.model.add_design_var("x")
    made.model.add_design_var("w")
    made.model.add_objective("cost")
    made.driver = om.ScipyOptimizeDriver(optimizer="SLSQP", tol=1e-12, disp=False)
    made.setup()
    made.run_driver()
    # 2 (x - 3) + sum(w) = 0 and x + 2 w = 0.
    np.testing.assert_allclose(made.get_val("x"), 12, rtol=1e-5)
    np.testing.assert_allclose(made.get_val("w"), -6, rtol=1e-5)


def test_what_is_no_mapping_of_outputs(client: gw.Client) -> None:
    with pytest.raises(gw.InvalidGraphError, match="a component returns outputs by name; found Expression"):
        Component(client, lambda x: x**2, {"x": ()})
