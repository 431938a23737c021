"""A design by OpenMDAO: the can of 330 ml with the least tin, whose quantities and derivatives come from the engine."""
# pyright: basic

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import openmdao.api as om
from philote_mdo.general import ExplicitServer
from philote_mdo.openmdao import RemoteExplicitComponent

import gradwire as gw
import gradwire.philote
from examples.running import run

PI = 3.141592653589793


def can(radius: Any, height: Any) -> dict[str, Any]:
    """Surface in cm^2 and volume in cm^3, of radius and height in cm."""
    return {"surface": 2 * PI * radius * (radius + height), "volume": PI * radius**2 * height}


def design(channel: grpc.Channel) -> tuple[float, float]:
    """Radius and height of the best can, by the discipline that is served there."""
    problem = om.Problem(reports=False)
    problem.model.add_subsystem("can", RemoteExplicitComponent(channel=channel), promotes=["*"])
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


def main(client: gw.Client) -> tuple[float, float]:
    """Radius and height; the height of the best can is twice its radius."""
    server = grpc.server(ThreadPoolExecutor(2))
    discipline = gradwire.philote.Discipline(client, can, {"radius": (), "height": ()})
    ExplicitServer(discipline=discipline).attach_to_server(server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        found = design(channel)
    server.stop(None).wait()
    return found


if __name__ == "__main__":
    run(main)
