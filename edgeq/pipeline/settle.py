"""What only samples can tell: branches that stay apart, what is float beside float ops, channels that are evened out.

And what of it the user hears.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.migration import migrated, migrations
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.graph.graph import Graph, name
from edgeq.pipeline.automatic import GOOD
from edgeq.pipeline.inputs import Model, Sets
from edgeq.plan.beside_float import beside_float
from edgeq.plan.branches import candidates, too_different
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request, decide

#: Samples that show how far the branches of a Concat reach; a factor of 4 does not hide for long.
_SAMPLES, _BATCH = 64, 16
#: What lies between matrix products and float ops is float where the activations' divergence falls to this part by it.
HALF = 0.5
_BESIDE = "between matrix products and float ops, where grids cost more than they save: divergence with and without"


def settle(model: Model, skeleton: Skeleton, asked: Request, sets: Sets) -> tuple[Model, Skeleton]:
    """The model with uneven channels evened out (the same function), and its skeleton, uneven branches apart."""
    apart = _apart(model, skeleton, sets)
    skeleton = decide(model.graph, asked, apart) if apart else skeleton
    loose = _beside_float(model, skeleton, asked, apart, sets)
    apart = {**apart, **loose}
    skeleton = decide(model.graph, asked, apart) if loose else skeleton
    found = migrations(model.graph, skeleton, model.batches(sets.calibration.take(_SAMPLES), _BATCH))
    if not found:
        return model, skeleton
    graph, added = migrated(model.graph, found)
    changed = decide(graph, asked, {**apart, **added})
    if any(unit.integer for unit in changed.units if unit.name in added):
        return model, skeleton  # a format was asked for by name that would put the factors themselves on a grid
    return replace(model, graph=graph), changed


def evened(model: Model, settled: Model) -> tuple[str, ...]:
    """A sentence on the channels that were evened out."""
    if settled.graph is model.graph:
        return ()
    count = len(settled.graph.nodes) - len(model.graph.nodes)
    return (
        "channels that are too uneven for one grid are evened out by powers of two between layers and float ops "
        f"({count} multiplications in float); the float function stays the same to the last bit",
    )


def _apart(model: Model, skeleton: Skeleton, sets: Sets) -> Mapping[str, str]:
    """Concats of branches of very different ranges, and why they are float."""
    concats = candidates(model.graph, skeleton)
    branches = {value for unit in concats for value in unit.inputs if model.graph.constant(value) is None}
    if not branches:
        return {}
    each = replace(skeleton, groups={value: value for value in sorted(branches)}, fixed={}, clamps={})
    seen = observe(model.module, sets.calibration.take(_SAMPLES), each)
    return too_different(model.graph, skeleton, seen.extremes)


def _beside_float(
    model: Model, skeleton: Skeleton, asked: Request, apart: Mapping[str, str], sets: Sets
) -> Mapping[str, str]:
    """What lies beside float ops, and why it is float too, where its grids have most of what the activations cost."""
    names = beside_float(model.graph, skeleton)
    if not names:
        return {}
    samples = sets.calibration.take(_SAMPLES)
    batches = model.batches(samples, _BATCH)
    reference = float_outputs(model.graph, batches)

    def cost(skeleton: Skeleton) -> float:
        plan = nearest(model.graph, skeleton, observe(model.module, samples, skeleton))
        return divergence(model.graph, plan, batches, reference, weights=False)

    on_grids = cost(skeleton)
    if on_grids <= GOOD:
        return {}
    left = cost(decide(model.graph, asked, {**apart, **dict.fromkeys(names, _BESIDE)}))
    return dict.fromkeys(names, f"{_BESIDE} ({on_grids:.2g} against {left:.2g})") if left <= HALF * on_grids else {}


def not_judged(graph: Graph) -> tuple[str, ...]:
    """A sentence on the outputs that no metric looks at."""
    first, *others = (name(value) for value in graph.outputs)
    if not others:
        return ()
    listed = ", ".join(repr(other) for other in others[:4]) + (" ..." if len(others) > 4 else "")
    return (f"the gate judges the first output, {first!r}; {listed} can be seen in the table of layers alone",)


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
    beside = [unit for unit in skeleton.units if unit.reason.startswith(_BESIDE)]
    if beside:
        kinds = ", ".join(f"{count} {op}" for op, count in Counter(unit.op for unit in beside).most_common())
        notes.append(f"{kinds} {beside[0].reason}; --bits-for '{beside[0].name}=w8a8' asks for integers")
    notes += [f"Concat {unit.name!r} is float: {unit.reason}" for unit in concats]
    return tuple(notes)
