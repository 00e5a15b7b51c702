"""Concatenations whose branches must not share one grid: boxes in pixels beside scores between 0 and 1.

A Concat on codes has one grid for all that it joins (``edgeq.plan.ops``). Then
- a branch whose grid the runtimes prescribe (softmax, sigmoid, tanh) would force it on all others, which saturate;
- a branch of a range F times smaller than another's keeps 256/F of its 256 steps: its error grows F-fold, which is two
  bits at the factor of 4 from which branches are kept apart.
Such a Concat is computed in float, each branch dequantized from its own grid. Where a layer reads the result it will
be put on one grid anyhow: then a Concat stays integer however far its branches' ranges are apart.
"""

from collections.abc import Mapping, Sequence

from edgeq.graph.graph import Graph
from edgeq.plan.ops import FIXED, SAME_GRID
from edgeq.plan.plan import Skeleton, Unit

#: Ranges that differ by this factor or more are kept apart.
FACTOR = 4.0


class Prescribed:
    """Follows the grids that runtimes prescribe through the ops that pass codes on, unit by unit in their order."""

    def __init__(self) -> None:
        self._op_of: dict[str, str] = {}

    def conflict(self, graph: Graph, unit: Unit) -> str:
        """Why a Concat cannot have one grid, or ""; notes the grid of what any other unit makes."""
        made = [self._op_of.get(value, "") for value in unit.inputs if graph.constant(value) is None]
        if unit.op == "Concat" and len(set(made)) > 1:
            known = ", ".join(dict.fromkeys(op for op in made if op))
            return f"joins the output of {known}, whose grid is prescribed, with values on another grid"
        if unit.op in FIXED:
            self._op_of.update(dict.fromkeys(unit.outputs, unit.op))
        elif unit.op in SAME_GRID and made and made[0]:
            self._op_of.update(dict.fromkeys(unit.outputs, made[0]))
        return ""


def candidates(graph: Graph, skeleton: Skeleton) -> tuple[Unit, ...]:
    """The integer Concats of computed branches whose result no layer reads on codes."""
    readers = readers_of(skeleton.units)
    return tuple(
        unit
        for unit in skeleton.units
        if unit.integer
        and unit.op == "Concat"
        and sum(graph.constant(value) is None for value in unit.inputs) > 1
        and not computed_on(unit.outputs[0], readers)
    )


def too_different(graph: Graph, skeleton: Skeleton, extremes: Mapping[str, tuple[float, float]]) -> Mapping[str, str]:
    """Unit name -> why its branches are kept apart.

    Args:
        graph: the model.
        skeleton: what is integer so far.
        extremes: value -> (smallest, largest) on samples, for every branch of the :func:`candidates`.
    """
    found = {}
    for unit in candidates(graph, skeleton):
        extents = {v: _extent(*extremes[v]) for v in unit.inputs if graph.constant(v) is None}
        present = {value: extent for value, extent in extents.items() if extent > 0}
        if len(present) < 2:
            continue
        widest, narrowest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        factor = present[widest] / present[narrowest]
        if factor >= FACTOR:
            found[unit.name] = (
                f"its branches {widest!r} and {narrowest!r} differ in range by a factor of {factor:.3g}: "
                "kept apart, each on a grid of its own"
            )
    return found


def _extent(low: float, high: float) -> float:
    """The width of the grid that covers a range and zero."""
    return max(high, 0.0) - min(low, 0.0)


def readers_of(units: Sequence[Unit]) -> Mapping[str, Sequence[Unit]]:
    """Value -> the units that read it."""
    found: dict[str, list[Unit]] = {}
    for unit in units:
        for value in dict.fromkeys(unit.inputs):
            found.setdefault(value, []).append(unit)
    return found


def computed_on(value: str, readers: Mapping[str, Sequence[Unit]]) -> bool:
    """Whether an integer unit computes on a value, or on what merely moves its codes."""
    integer = [unit for unit in readers.get(value, ()) if unit.integer]
    return any(unit.op not in SAME_GRID for unit in integer) or any(
        computed_on(output, readers) for unit in integer for output in unit.outputs
    )


__all__ = ["FACTOR", "Prescribed", "candidates", "computed_on", "readers_of", "too_different"]
