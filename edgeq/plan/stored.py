"""How a TFLite file holds codes of 2 to 7 bits: as int8 codes, shifted to the upper end of that type.

    stored = code + 127 - qmax,   and the zero point alike: the same real numbers

Kernels saturate at the ends of int8, not at those of a narrower grid. At the upper end one end is held for nothing; the
other is, too, where it is the zero of a fused ReLU. (At the lower end no fused activation would hold what is left.)
Grids whose zero point has to be 0 stay where they are.
"""

from dataclasses import replace

from edgeq.plan.plan import Plan
from edgeq.plan.quantization import Quantization

#: The ends of int8.
LOWEST, HIGHEST = -128, 127


def is_narrow(grid: Quantization) -> bool:
    """Whether the type that holds a grid's codes holds others too, so that no kernel saturates at all of its ends."""
    return grid.bits < 8


def in_bytes(plan: Plan) -> Plan:
    """The plan with the activations' grids as a TFLite file holds them; those of 8 and 16 bits are not touched."""
    grids = {value: grid.shifted(_offset(plan, value, grid)) for value, grid in plan.activations.items()}
    return replace(plan, activations=grids)


def _offset(plan: Plan, value: str, grid: Quantization) -> int:
    skeleton = plan.skeleton
    stays = skeleton.symmetric or skeleton.groups[value] in skeleton.centred
    return 0 if stays or not is_narrow(grid) else HIGHEST - grid.qmax


__all__ = ["HIGHEST", "LOWEST", "in_bytes", "is_narrow"]
