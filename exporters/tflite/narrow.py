"""Grids of fewer than 8 bits in int8 tensors: what limits the codes where no kernel saturates at the grid's ends.

A QUANTIZE from int8 to int8 on the same scale only shifts codes, and saturates: behind an op that made the grid's
lowest code as -128, it moves the grid to the upper end of int8. So both ends are held, without an arithmetic error:

    -128 <= y + shift   (the op's own saturation),   y + shift' <= 127   (QUANTIZE's)

MINIMUM and MAXIMUM would do it without a shift, but LiteRT's delegate does not take them on codes, and every one would
cut the model in two. They are written where the zero point must stay 0.
"""

import numpy as np

from edgeq.exporters.tflite.schema import options
from edgeq.exporters.tflite.writer import Writer
from edgeq.plan.quantization import Quantization
from edgeq.plan.stored import HIGHEST, LOWEST, is_narrow


def entry_grid(grid: Quantization, *, symmetric: bool = False) -> Quantization:
    """The grid on which an op makes codes that are limited behind it: a narrow one at the lower end of int8.

    Args:
        grid: that they are limited to.
        symmetric: whether every zero point has to be 0.
    """
    return grid.shifted(LOWEST - grid.qmin) if is_narrow(grid) and not symmetric else grid


def limit(writer: Writer, source: int, target: int, entry: Quantization, grid: Quantization) -> None:
    """Write what brings codes from the entry's grid to the final one, both ends held."""
    name, shape = f"{writer.name(target)}::limit", writer.shape(target)
    if entry.offset == grid.offset:
        bound = [
            writer.constant(f"{name}_{end}", np.full((1,), code, np.int8), grid)
            for end, code in (("lowest", grid.qmin), ("highest", grid.qmax))
        ]
        raised = writer.tensor(f"{name}_raised", shape, "int8", grid)
        writer.operator("MAXIMUM", [source, bound[0]], [raised], options("MaximumMinimum"))
        writer.operator("MINIMUM", [raised, bound[1]], [target], options("MaximumMinimum"))
        return
    if grid.qmax != HIGHEST:
        top = entry.shifted(HIGHEST - entry.qmax)
        shifted = writer.tensor(f"{name}_shifted", shape, "int8", top)
        writer.operator("QUANTIZE", [source], [shifted], options("Quantize"))
        source = shifted
    writer.operator("QUANTIZE", [source], [target], options("Quantize"))


__all__ = ["entry_grid", "limit"]
