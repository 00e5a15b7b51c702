"""Where a run's plan lies in the basin: t* and I of the diagnostic, on a few held-out samples.

t*   how far along the way from the float to the quantized weights the basin's edge lies (``edgeq.basin.path``);
     above 1 the plan is inside
I    whether descent from the deployed point leads back to the basin (``edgeq.basin.inward``): positive does
"""

from dataclasses import dataclass

import torch

from edgeq.basin.divergence import refer
from edgeq.basin.inward import inward
from edgeq.basin.path import walk
from edgeq.basin.simulated import landscape_of
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.recovery.samples import Inputs
from edgeq.recovery.stopping import BASIN
from edgeq.task import Task

#: They are read three times in a run; with so many samples that costs about a second of a small network's run.
SAMPLES = 48
_WAY = (0.25, 0.5, 0.75, 1.0, 1.5)


@dataclass(frozen=True)
class Whereabouts:
    """The two numbers.

    Attributes:
        t_star: infinity where the basin's edge is not met up to half as far again.
        inward: I.
    """

    t_star: float
    inward: float


def whereabouts(graph: Graph, plan: Plan, inputs: Inputs, task: Task) -> Whereabouts:
    """Of a plan, on the first of these samples; on the CPU."""
    few = tuple(x[:SAMPLES].to(torch.device("cpu")) for x in inputs)
    landscape, _ = landscape_of(graph, plan)
    reference = refer(landscape, [few], task)
    radius = walk(landscape, reference, activations=True, ts=_WAY).radius(BASIN)
    return Whereabouts(radius, inward(landscape, reference, activations=True).value)
