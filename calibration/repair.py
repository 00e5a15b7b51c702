"""Re-estimate each layer's output statistics: match mean and standard deviation to the float model's, layer by layer.

    s' = s std(y_f) / std(y_q),     c = b + mean(W x_f) - mean(V' x_q)

for each output channel, y_q computed behind the already repaired layers. The codes stay; scale and bias change, so the
repair costs nothing at run time. Much of a collapse at 2 or 3 bits is such a shift; on a healthy model the step can
cost, so it is kept only where it brings the model's outputs nearer to the float model's on held-out samples.
"""

from collections.abc import Sequence

import torch

from edgeq.calibration.columns import scales_of_rows, to_rows
from edgeq.calibration.divergence import Inputs, distance, float_outputs
from edgeq.calibration.layer import Layer
from edgeq.calibration.parity import of
from edgeq.calibration.sequential import UnitProgress, sequential
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan


def repair(graph: Graph, plan: Plan, samples: Inputs, *, progress: UnitProgress | None = None) -> Plan:
    """The plan with the same codes and re-estimated scales and biases, unguarded; see :func:`better`.

    Args:
        graph: the model that the plan is of.
        plan: from any method.
        samples: calibration inputs, batch by batch.
        progress: called after each unit.
    """
    units = {unit.name: unit for unit in plan.units}

    def keep(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        unit = units[problem.name]
        constant = plan.weights[unit.weight or ""]
        codes = torch.from_numpy(to_rows(graph, unit, constant.codes.astype("float64")).copy())
        grid = constant.quantization
        return codes, scales_of_rows(graph, unit, grid.scale, codes, blocked=bool(grid.block))

    return sequential(
        graph, plan.skeleton, plan.activations, samples, keep,
        method=f"{plan.method}+statistics", match_variance=True, first_order=True, parities=of(plan),
        progress=progress,
    )  # fmt: skip


def better(graph: Graph, plans: Sequence[Plan], held_out: Inputs) -> tuple[Plan, tuple[float, ...]]:
    """The plan nearest to the float model on held-out samples, the first of equals, and every plan's distance."""
    reference = float_outputs(graph, held_out)
    found = tuple(distance(graph, plan, held_out, reference).soft for plan in plans)
    return plans[found.index(min(found))], found
