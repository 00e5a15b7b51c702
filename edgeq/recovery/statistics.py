"""The statistics repair as a plan: the same codes on rescaled grids, with new biases (``edgeq.basin.repair``).

It comes before training: seconds of it undo most of a collapse at 2 and 3 bits, and training from a shifted point would
spend its budget on undoing the shift.
"""

from dataclasses import replace

import numpy as np
import torch

from edgeq.basin.landscape import Batches
from edgeq.basin.repair import repair
from edgeq.basin.simulated import bias_name, landscape_of
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import quantized_bias


def repaired(graph: Graph, plan: Plan, batches: Batches) -> Plan:
    """The plan with every layer's output mean and deviation matched to the float model's.

    On a healthy model this can cost: keep it only where other samples say so. A weight-only layer takes the gain alone,
    since its bias is not the plan's.

    Args:
        graph: the float model.
        plan: any plan.
        batches: unlabelled samples; 256 or more images.

    Raises:
        PlanError: the plan quantizes no weights.
    """
    landscape, model = landscape_of(graph, plan)
    fixed = repair(model, landscape, batches)
    weights = dict(plan.weights)
    for layer in fixed.layers:
        constant = plan.weights[layer.weight]
        # A step is the distance of two codes, which can be two apart.
        step = layer.step if constant.quantization.parity is None else layer.step / 2
        scale = _array(step).reshape(constant.quantization.scale.shape)
        weights[layer.weight] = replace(constant, quantization=replace(constant.quantization, scale=scale))
    biases = {}
    for unit in plan.units:
        if unit.name in plan.biases and unit.weight is not None:
            grid, weight = plan.activations[unit.inputs[0]], weights[unit.weight].quantization
            biases[unit.name] = quantized_bias(_array(fixed.deployed[bias_name(unit)]), grid, weight)
    return replace(plan, weights=weights, biases=biases, method=f"{plan.method}+statistics")


def _array(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(tensor.detach().cpu().numpy(), np.float32)
