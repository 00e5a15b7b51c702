"""A device profile against a model, before any work is done: what will not run there, and what will not be integer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgeq.devices.profile import Profile
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton, Unit

#: Reasons of the plan's rules for units that have nothing to gain from integers.
_NO_ARITHMETIC = ("computes shapes or indices", "computes on constants")


@dataclass(frozen=True)
class Finding:
    """One thing that the device and the model disagree on.

    Attributes:
        level: error: the artefact would not run or would be wrong there; warning: it runs, but not as hoped.
        unit: the unit's name; "" for the whole model.
        message: one line with what to do.
    """

    level: Literal["error", "warning"]
    unit: str
    message: str


def lint(profile: Profile, skeleton: Skeleton) -> tuple[Finding, ...]:
    """All findings, in the order of the units; the whole model's first."""
    return (*_whole(profile, skeleton), *(f for unit in skeleton.units for f in _unit(profile, skeleton, unit)))


def _whole(profile: Profile, skeleton: Skeleton) -> list[Finding]:
    found = []
    formats = Counter(bits for unit in skeleton.units if (bits := skeleton.bits[unit.name]).weights is not None)
    known = {Bits.parse(text) for text in (*profile.bits, *profile.integer_ops, *profile.slow_ops)}
    for bits in formats:
        if known and bits not in known:
            offered = ", ".join(profile.bits)
            found.append(
                Finding("error", "", f"{profile.name} does not run {bits}; it runs {offered}: choose with --bits")
            )
    if skeleton.per_channel and profile.granularity == "per-tensor":
        message = f"{profile.name} takes per-tensor weights only, but the plan has a scale per channel"
        found.append(Finding("error", "", message))
    return found


def _unit(profile: Profile, skeleton: Skeleton, unit: Unit) -> list[Finding]:
    bits = skeleton.bits[unit.name]
    if not unit.integer:
        if bits.weights is not None or unit.op in profile.float_ops or unit.reason in _NO_ARITHMETIC:
            return []
        return [Finding("warning", unit.name, f"{unit.name} ({unit.op}) will run in float: {unit.reason}")]
    fast, slow = (_ops(table, bits, unit) for table in (profile.integer_ops, profile.slow_ops))
    if unit.op in fast or (not fast and not slow):
        # No list for a format that the profile offers says that nothing is known against it.
        return []
    if unit.op in slow:
        message = f"{unit.name} ({unit.op}) at {bits} runs on {profile.name}, but no faster than in float"
        return [Finding("warning", unit.name, message)]
    message = f"{profile.name} has no integer {unit.op} at {bits}, which {unit.name} would need"
    return [Finding("error", unit.name, f"{message}: --float '{unit.name}'")]


def _ops(table: Mapping[str, tuple[str, ...]], bits: Bits, unit: Unit) -> frozenset[str]:
    """The ops that a table lists for a format; for a unit without a weight only the activations' bits matter."""
    formats = {text: Bits.parse(text) for text in table}
    same = [
        text
        for text, each in formats.items()
        if each == bits or (unit.weight is None and each.activations == bits.activations)
    ]
    return frozenset(op for text in same for op in table[text])
