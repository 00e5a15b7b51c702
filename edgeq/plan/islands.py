"""Arithmetic between integer layers and float ops: a result that only float ops read is not put on 8 bits for them.

The sum before a LayerNormalization is the case that matters: a transformer's residual stream has a few numbers a
hundred times larger than the rest (Dettmers et al., 2022, LLM.int8()), its grid is coarse, and nothing is gained by
it, since what reads the sum dequantizes it at once. A layer with weights stays integer: its
products are the gain.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from edgeq.graph.graph import Graph
from edgeq.plan.ops import ELEMENTWISE, RESCALING, SAME_GRID
from edgeq.plan.plan import Unit

_REASON = "only float ops read it, and dequantize it at once"
_ARITHMETIC = (ELEMENTWISE | RESCALING) - {"Identity"}


def without_islands(graph: Graph, units: Sequence[Unit], asked: Collection[str] = ()) -> tuple[Unit, ...]:
    """The units, where arithmetic that only float units read is float too, and so is what merely moves its result.

    Args:
        graph: the model.
        units: all of it with its decisions, in topological order.
        asked: names of units that are to be integer in any case.
    """
    wanted = _wanted(graph, units)
    real: set[str] = set()  # values that are no longer codes
    decided: list[Unit] = []
    for unit in units:
        idle = unit.integer and unit.name not in asked and not any(value in wanted for value in unit.outputs)
        if idle and (unit.op in _ARITHMETIC or (unit.op in SAME_GRID and real.intersection(unit.inputs))):
            unit = replace(unit, integer=False, reason=_REASON)
            real.update(unit.outputs)
        decided.append(unit)
    return tuple(decided)


def _wanted(graph: Graph, units: Sequence[Unit]) -> frozenset[str]:
    """The values whose codes are computed on by an integer unit, moved about perhaps, or are the model's result."""
    found: set[str] = set()
    for unit in reversed(units):
        found.update(value for value in unit.outputs if graph.is_output(value))
        if unit.integer and (unit.op not in SAME_GRID or any(value in found for value in unit.outputs)):
            found.update(unit.inputs)
    return frozenset(found)
