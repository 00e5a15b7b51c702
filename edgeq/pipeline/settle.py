"""What only samples can tell: which branches stay apart, which channels are evened out; what of it the user hears."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from edgeq.calibration.migration import migrated, migrations
from edgeq.calibration.ranges import observe
from edgeq.graph.graph import Graph, name
from edgeq.pipeline.inputs import Model, Sets
from edgeq.plan.branches import candidates, too_different
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request, decide

#: Samples that show how far the branches of a Concat reach; a factor of 4 does not hide for long.
_SAMPLES, _BATCH = 64, 16


def settle(model: Model, skeleton: Skeleton, asked: Request, sets: Sets) -> tuple[Model, Skeleton]:
    """The model with uneven channels evened out (the same function), and its skeleton, uneven branches apart."""
    apart = _apart(model, skeleton, sets)
    skeleton = decide(model.graph, asked, apart) if apart else skeleton
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
    notes += [f"Concat {unit.name!r} is float: {unit.reason}" for unit in concats]
    return tuple(notes)
