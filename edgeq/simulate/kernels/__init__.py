"""What each runtime's integer kernels compute, to the last bit: one file per kernel family.

A family is a table from a unit's op to a function of codes. Codes are float32 tensors that hold integers on the plan's
signed grid, in the graph's layout. The formulas were found in the runtimes' sources and checked on millions of values.
"""

from edgeq.simulate.kernels.family import Family
from edgeq.simulate.kernels.fixed_point import GEMMLOWP, LITERT_REFERENCE, RUY, RUY_GEMMLOWP, TFLITE_MICRO
from edgeq.simulate.kernels.litert import LITERT_DEFAULT
from edgeq.simulate.kernels.litert_arm import LITERT_ARM
from edgeq.simulate.kernels.onnxruntime import ONNXRUNTIME_X86
from edgeq.simulate.kernels.onnxruntime_arm import ONNXRUNTIME_ARM

FAMILIES: tuple[Family, ...] = (
    ONNXRUNTIME_X86,
    ONNXRUNTIME_ARM,
    LITERT_DEFAULT,
    LITERT_ARM,
    LITERT_REFERENCE,
    GEMMLOWP,
    TFLITE_MICRO,
    RUY,
    RUY_GEMMLOWP,
)


def family(name: str) -> Family:
    """The kernel family of that name; KeyError if there is none."""
    return {family.name: family for family in FAMILIES}[name]


__all__ = ["FAMILIES", "Family", "family"]
