"""What only samples can tell about the skeleton of the plan, and what of it the user should hear."""

from collections import Counter
from dataclasses import replace

from edgeq.calibration.ranges import observe
from edgeq.pipeline.inputs import Model, Sets
from edgeq.plan.branches import candidates, too_different
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request, decide

#: Samples that show how far the branches of a Concat reach; a factor of 4 does not hide for long.
_SAMPLES = 64


def settle(model: Model, skeleton: Skeleton, asked: Request, sets: Sets) -> Skeleton:
    """The skeleton in which Concats of branches of very different ranges are float."""
    concats = candidates(model.graph, skeleton)
    branches = {value for unit in concats for value in unit.inputs if model.graph.constant(value) is None}
    if not branches:
        return skeleton
    each = replace(skeleton, groups={value: value for value in sorted(branches)}, fixed={}, clamps={})
    seen = observe(model.module, sets.calibration.take(_SAMPLES), each)
    apart = too_different(model.graph, skeleton, seen.extremes)
    return decide(model.graph, asked, apart) if apart else skeleton


def left_in_float(skeleton: Skeleton) -> tuple[str, ...]:
    """Sentences on the detection heads and the concatenations that the plan leaves in float."""
    notes = []
    behind = [unit for unit in skeleton.units if unit.reason.startswith("post-processing")]
    if behind:
        kinds = ", ".join(f"{count} {op}" for op, count in Counter(unit.op for unit in behind).most_common())
        notes.append(
            f"{behind[0].reason}: {kinds}, from {behind[0].name!r} on; "
            f"--bits-for '{behind[0].name}=w8a8' asks for integers"
        )
    concats = [unit for unit in skeleton.units if unit.op == "Concat" and "its branches" in unit.reason]
    concats += [unit for unit in skeleton.units if unit.op == "Concat" and unit.reason.startswith("joins the output")]
    notes += [f"Concat {unit.name!r} is float: {unit.reason}" for unit in concats]
    return tuple(notes)
