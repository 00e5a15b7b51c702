"""Ratios of scales beyond which LiteRT's integer kernels abort, refuse the model, or silently give garbage.

Measured with LiteRT 2.3 (output scale shrunk step by step; default delegate and reference kernels):
- CONV_2D, DEPTHWISE, TRANSPOSE_CONV, FULLY_CONNECTED: with input scale x weight scale / output scale of 2^8 or more the
  delegate fails to prepare, and with it the whole model.
- ADD, SUB: from input scale / output scale of 2^8 the delegate gives garbage, from about 2^19 the process aborts.
- MUL: from the product of both scales / output scale of 2^8 the delegate gives garbage.
- SOFTMAX: an input scale of 2^35 aborts the process.
Such plans come from values that are next to constant, and from attention masks of -1e38 added in integers.
"""

from collections.abc import Iterator

import numpy as np

from edgeq.plan.plan import Plan, Unit
from edgeq.simulate.kernels.gate import SLOPE, gate_grid

LARGEST_RATIO = 2.0**8
LARGEST_SPREAD = 2.0**20
LARGEST_SOFTMAX_SCALE = 2.0**20


def beyond(plan: Plan, unit: Unit) -> str:
    """Why an integer unit cannot be computed on the plan's grids, or ""."""
    if not unit.integer:
        return ""
    if unit.op == "Softmax":
        scale = float(plan.activations[unit.inputs[0]].scale)
        return f"an input scale of {scale:.3g}" if scale >= LARGEST_SOFTMAX_SCALE else ""
    worst = max(_ratios(plan, unit), default=0.0)
    return f"a ratio of scales of {worst:.3g}, at or above {LARGEST_RATIO:g}" if worst >= LARGEST_RATIO else ""


def _ratios(plan: Plan, unit: Unit) -> Iterator[float]:
    if unit.weight is not None:
        weight = plan.weights[unit.weight].quantization
        scale = float(np.max(weight.scale)) * float(plan.activations[unit.inputs[0]].scale)
        yield scale / float(plan.activations[unit.outputs[0]].scale)
    elif unit.op in ("HardSigmoid", "HardSwish"):
        # Their ADD; what the slope is matters little beside 2^8.
        gate = (
            plan.activations[unit.outputs[0]]
            if unit.op == "HardSigmoid"
            else gate_grid(plan.activations[unit.inputs[0]].bits)
        )
        scale = float(plan.activations[unit.inputs[0]].scale)
        yield scale * SLOPE / float(gate.scale)
        yield scale * float(gate.scale) / float(plan.activations[unit.outputs[0]].scale)
    elif unit.op in ("Add", "Sub", "Mul"):
        scales = [
            float((plan.constants[v].quantization if v in plan.constants else plan.activations[v]).scale)
            for v in unit.inputs
        ]
        output = float(plan.activations[unit.outputs[0]].scale)
        if unit.op == "Mul":
            yield scales[0] * scales[-1] / output
            return
        yield max(scales) / output
        # Beyond that nothing of the finer operand is left, and the process may abort.
        yield max(scales) / min(scales) / LARGEST_SPREAD * LARGEST_RATIO
