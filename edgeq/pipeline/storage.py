"""What a file stores weights of fewer than 8 bits, or of layers in float, in: a sentence for the report."""

from collections import Counter
from collections.abc import Iterable

from edgeq.exporters.audit import Audit
from edgeq.plan.plan import Plan

_BITS = {"int4": 4, "int8": 8}
_FLOAT = 32


def stored(plan: Plan, files: Iterable[tuple[str, Audit]]) -> tuple[str, ...]:
    """One sentence for each file: in which type its weights lie, what that saves, and what computes with them.

    Args:
        plan: the quantization.
        files: name and audit of each.
    """
    units = {unit.weight: unit for unit in plan.units if unit.weight in plan.weights}
    formats = Counter(str(plan.skeleton.bits[unit.name]) for unit in units.values())
    if not any(unit for unit in units.values() if not unit.integer or plan.skeleton.bits[unit.name].weights != 8):
        return ()
    asked = ", ".join(f"{count} weights at {bits}" for bits, count in formats.most_common())
    sizes = {unit.name: plan.weights[value or ""].codes.size for value, unit in units.items()}
    real = sum(sizes.values()) * _FLOAT / 8
    found = []
    for name, audit in files:
        types = {row.unit: row.dtype for row in audit.rows if row.unit in sizes and row.dtype in _BITS}
        taken = sum(sizes[unit] * _BITS[kind] / 8 for unit, kind in types.items())
        lie = " and ".join(f"{kind} ({count})" for kind, count in Counter(types.values()).most_common())
        if taken:
            found.append(f"{name}: {asked} lie in {lie}, {_size(taken)} of codes where float32 takes {_size(real)}")
    if found and any(not unit.integer for unit in units.values()):
        found.append("layers with weights alone in integers compute on real activations: how fast, latency says")
    return tuple(found)


def _size(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


__all__ = ["stored"]
