"""A design by OpenMDAO: the can of 330 ml with the least tin, whose quantities and derivatives come from the engine."""

from typing import Any

import openmdao.api as om

import gradwire as gw
import gradwire.openmdao
from examples.running import run

PI = 3.141592653589793


def can(radius: Any, height: Any) -> dict[str, Any]:
    """Surface in cm^2 and volume in cm^3, of radius and height in cm."""
    return {"surface": 2 * PI * radius * (radius + height), "volume": PI * radius**2 * height}


def main(client: gw.Client) -> tuple[float, float]:
    """Radius and height of the best can; its height is twice its radius."""
    problem: Any = om.Problem(reports=False)  # OpenMDAO has no types
    component = gradwire.openmdao.Component(client, can, {"radius": (), "height": ()})
    problem.model.add_subsystem("can", component, promotes=["*"])
    problem.model.add_design_var("radius", lower=1, upper=10)
    problem.model.add_design_var("height", lower=1, upper=30)
    problem.model.add_constraint("volume", equals=330, ref=100)
    problem.model.add_objective("surface", ref=100)
    problem.driver = om.ScipyOptimizeDriver(optimizer="SLSQP", tol=1e-10, disp=False)
    problem.setup()
    problem.set_val("radius", 3.0)
    problem.set_val("height", 10.0)
    problem.run_driver()
    return problem.get_val("radius").item(), problem.get_val("height").item()


if __name__ == "__main__":
    run(main)
