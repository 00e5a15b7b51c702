"""Round to nearest: every weight goes to the closest point of its min-max grid.

    scale = max|w| / (2^(b-1) - 1) per output channel,   code = round(w / scale)

The baseline that every other method is measured against; at 8 bits it is all that most models need.
"""

from edgeq.calibration.grids import activation_grids, bias_codes, constant_codes, safe_scales, weighted
from edgeq.calibration.parity import whole
from edgeq.calibration.ranges import Ranges
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.quantization import QuantizedConstant


def nearest(graph: Graph, skeleton: Skeleton, ranges: Ranges) -> Plan:
    """The plan of round-to-nearest.

    Args:
        graph: the model, in canonical form.
        skeleton: what is integer, with how many bits.
        ranges: of the quantized values.

    Raises:
        PlanError: the skeleton asks for the impossible.
    """
    activations = activation_grids(skeleton, ranges)
    weights: dict[str, QuantizedConstant] = {}
    for value, weight in weighted(graph, skeleton, whole).items():
        grid = weight.grid(safe_scales(weight, weight.covering, graph, activations))
        weights[value] = grid.quantize_constant(weight.real)
    return Plan(
        skeleton=skeleton,
        activations=activations,
        weights=weights,
        biases=bias_codes(graph, skeleton, activations, weights),
        constants=constant_codes(graph, skeleton),
        method="nearest",
    )
