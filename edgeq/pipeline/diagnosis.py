"""The basin-exit diagnostic: of a candidate made here or read from a file, as a stage or for ``edgeq diagnose``."""

import json
import math
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.basin.cost import ROUNDING_SAMPLES, Cost
from edgeq.basin.cost import Options as BasinOptions
from edgeq.basin.diagnose import Diagnosis, Progress, Repair, Rounding, diagnose
from edgeq.basin.divergence import refer
from edgeq.basin.foreign import read_foreign
from edgeq.basin.landscape import Batches, Landscape, Point
from edgeq.basin.lockstep import taken
from edgeq.basin.pictures import draw
from edgeq.basin.remedy import glob_of, remedy
from edgeq.basin.repair import repair
from edgeq.basin.report import to_json
from edgeq.basin.simulated import SimulatedModel, landscape_of
from edgeq.basin.valley import Slice, take_slice
from edgeq.basin.verdict import Thresholds
from edgeq.calibration.methods import method
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges, observe
from edgeq.calibration.sequential import sequential
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.macs import macs
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.quantization import Quantization
from edgeq.plan.rules import Request, decide
from edgeq.plan.store import digest
from edgeq.progress import Reporter
from edgeq.recovery.stopping import Budget
from edgeq.release.release import Picture
from edgeq.run_folder import RunFolder

_BATCH = 64
#: The trial of better rounding.
_TRIAL = "gptq+variance"
_PICTURE_SAMPLES = 32
#: Multiply-accumulates of a model whose valley is drawn in a report without being asked for.
_LARGEST_VALLEY = 100_000_000
_WORDS = {
    "path": ("The path out of the basin", "Loss along the straight path from the float to the quantized weights."),
    "valley": (
        "The valley",
        "Loss in the plane of the float, the quantized and the trained or re-rounded weights.",
    ),
    "blame": ("Who is to blame", "Each layer's share of the loss."),
    "widths": ("Grid against basin", "Each layer's grid step against the width of its basin."),
}
_TRAINING_SAMPLES = 512
#: More bits are advised for layers with at least this part of the worst layer's blame.
_BLAMED = 0.05


@dataclass(frozen=True, eq=False)
class Candidate:
    """A float model and a quantized candidate of it, ready to be diagnosed.

    Attributes:
        landscape: the two and what lies between.
        repair: re-estimates its statistics.
        rounding: the trial of better rounding; None leaves it out.
        unmatched: layers that a file does not quantize, or not under a name that was found.
        rescaled: layers whose weights a tool had rescaled across layers; they are taken in the float model's units.
        bits: the number format of a file, as read from it; None where it is ours and known.
        flags: of ``edgeq convert``, for the layers of a file that have another format.
    """

    landscape: Landscape
    repair: Repair
    rounding: Rounding | None
    unmatched: tuple[str, ...] = ()
    rescaled: tuple[str, ...] = ()
    bits: Bits | None = None
    flags: tuple[str, ...] = ()


def candidate_of_plan(graph: Graph, plan: Plan, training: Batches, *, whole: bool = False) -> Candidate:
    """A plan of ours.

    Args:
        graph: the float model.
        plan: the candidate.
        training: unlabelled samples for the repair and the trial of rounding.
        whole: each batch is one sample, a whole input of the model.
    """
    landscape, model = landscape_of(graph, plan)
    rounding = _trial(graph, plan.skeleton, lambda: plan.activations, training, whole=whole)
    return Candidate(_counted(landscape, whole), _repairer(model, training), rounding)


def candidate_of_file(graph: Graph, quantized: Graph, training: Batches, *, whole: bool = False) -> Candidate:
    """A quantized file of any tool; see :func:`edgeq.basin.foreign.read_foreign` for what is refused.

    The trial of rounding is made in the file's number format, on our own grids: what ``edgeq convert`` would reach.
    """
    found = read_foreign(graph, quantized)
    layers, bits = found.landscape.layers, found.bits
    others = [(name, FLOAT) for name in found.unmatched]
    others += [(layer.name, Bits(min(layer.bits, 8), bits.activations)) for layer in layers]
    others = [(name, kept) for name, kept in others if kept != bits]
    per_channel = any(layer.step.numel() > 1 for layer in layers)
    request = Request(bits, [(glob_of(name), kept) for name, kept in others], per_channel)
    skeleton = decide(graph, request)

    def activations() -> Mapping[str, Quantization]:
        ranges = observe(to_torch(graph), training, skeleton) if skeleton.groups else Ranges({}, {}, 0, "none")
        return nearest(graph, skeleton, ranges).activations

    return Candidate(
        _counted(found.landscape, whole),
        _repairer(found.model, training),
        _trial(graph, skeleton, activations, training, whole=whole),
        found.unmatched,
        found.rescaled,
        bits,
        tuple(word for name, kept in others for word in _flag(name, kept)),
    )


def _flag(name: str, bits: Bits) -> tuple[str, str]:
    return ("--float", glob_of(name)) if bits == FLOAT else ("--bits-for", f"{glob_of(name)}={bits}")


def _trial(
    graph: Graph, skeleton: Skeleton, activations: Callable[[], Mapping[str, Quantization]], training: Batches, *,
    whole: bool,
) -> Rounding:  # fmt: skip
    """Better rounding in a number format, as it is and repaired."""

    def rounding() -> tuple[Landscape, ...]:
        trial = method(_TRIAL)
        assert trial.rounding is not None
        few = taken(training, ROUNDING_SAMPLES)
        better = sequential(
            graph, skeleton, activations(), few, trial.rounding, method=_TRIAL, match_variance=trial.match_variance
        )
        rounded, behind = landscape_of(graph, better)
        return _counted(rounded, whole), _repairer(behind, training)(_counted(rounded, whole))

    return rounding


def _counted(landscape: Landscape, whole: bool) -> Landscape:
    return landscape.one_by_one() if whole else landscape


def _repairer(model: SimulatedModel, training: Batches) -> Repair:
    return lambda candidate: repair(model, candidate, training)


def examine(
    candidate: Candidate,
    probe: Batches,
    training: Batches,
    command: str,
    bits: Bits,
    options: BasinOptions,
    *,
    labels: npt.NDArray[np.integer[Any]] | None = None,
    trained: float = 0.0,
    announce: Callable[[Cost], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Diagnosis, tuple[str, ...]]:
    """The diagnosis of a candidate, and its remedies as commands.

    Args:
        candidate: what to diagnose.
        probe: unlabelled samples to judge on.
        training: others, for the repair and the trials.
        command: how the model is converted, without a number format.
        bits: the candidate's number format, unless it says that itself.
        options: of the diagnosis.
        labels: of the probe samples, only reported.
        trained: the seconds of training that the candidate is what came of; infinity where they are not known.
        announce: told the cost before it is spent.
        progress: told what is being done.
    """
    found = diagnose(
        candidate.landscape,
        probe,
        training=training,
        labels=labels,
        repair=candidate.repair,
        rounding=candidate.rounding,
        options=options,
        announce=announce,
        progress=progress,
    )
    worst = max((layer.blame for layer in found.layers), default=0.0)
    blamed = [layer.name for layer in found.layers if layer.blame >= _BLAMED * worst]
    safe = {layer.name: None if layer.width is None else layer.width.safe_bits for layer in found.layers}
    share = found.raw.activations_share
    command = shlex.join([*shlex.split(command), *candidate.flags])
    bits = candidate.bits or bits
    return found, remedy(found.verdict, command, bits, blamed, safe, activations_share=share, trained=trained)


def slice_of(found: Diagnosis, samples: Batches) -> Slice:
    """The valley through what the trials reached.

    Args:
        found: the diagnosis.
        samples: a few dozen; some hundred forward passes are run over them.
    """
    others: dict[str, Point] = {}
    if found.probe is not None:
        others[f"{found.probe.steps[-1]} steps of training"] = found.probe.point
    if found.rounded is not None:
        others["better rounding"] = found.rounded.landscape.deployed
    return take_slice(found.landscape, refer(found.landscape, samples, found.task), others)


def diagnose_plan(
    options: Options, model: Model, plan: Plan, sets: Sets, folder: RunFolder, reporter: Reporter, command: str
) -> tuple[dict[str, Any], tuple[Picture, ...]]:
    """The object that ``edgeq diagnose --json`` prints, and the pictures.

    Args:
        options: of the run.
        model: the float model.
        plan: the candidate.
        sets: its probe is judged on, its calibration samples are repaired and trained on.
        folder: of the run.
        reporter: told of the progress.
        command: the run's own, which the remedies change.
    """
    assert sets.probe is not None
    probe, whole = sets.probe, sets.probe.whole
    trained = seconds_of_training(options.recover_budget)

    def compute() -> bytes:
        thresholds = Thresholds(tolerated=options.budgets.accuracy_drop or 0.01)
        size = sum(macs(model.graph, model.shapes).values())
        chosen, count = BasinOptions.for_size(size, None, thresholds, options.seed)
        training = model.batches(sets.calibration.take(min(2 * count, _TRAINING_SAMPLES), options.seed), _BATCH)
        found, remedies = examine(
            candidate_of_plan(model.graph, plan, training, whole=whole),
            model.batches(probe.take(count, options.seed), _BATCH),
            training,
            without_bits(command),
            options.bits,
            chosen,
            trained=trained,
            progress=lambda what, done, total: reporter.advance(int(done), int(total)),
        )
        content = to_json(found, remedies)
        # Time is not a result: the same inputs give the same report.
        few = model.batches(probe.take(_PICTURE_SAMPLES, options.seed), _PICTURE_SAMPLES)
        shown = size <= _LARGEST_VALLEY and (found.probe is not None or found.rounded is not None)
        content["pictures"] = _pictures(found, slice_of(found, few) if shown else None)
        content["cost"] = {"passes": content["cost"]["passes"]}
        return json.dumps(content, sort_keys=True).encode()

    key: dict[str, Any] = {
        "plan": digest(plan),
        "model": model.digest,
        "data": sets.digests["calibration"],
        "command": command,
        "trained": trained,
    }
    key |= {"tolerated": options.budgets.accuracy_drop, "seed": options.seed}
    content: dict[str, Any] = json.loads(folder.stage("diagnosis", key, compute))
    return content, tuple(Picture(**picture) for picture in content.pop("pictures"))


def seconds_of_training(budget: str | None) -> float:
    """How long a run with that ``--recover-budget`` trained; infinity for steps and samples: it is not known."""
    if budget is None:
        return 0.0
    return Budget.parse(budget).seconds or math.inf


def without_bits(command: str) -> str:
    """A command without its ``--bits``."""
    words: Sequence[str] = shlex.split(command)
    kept = [w for i, w in enumerate(words) if w != "--bits" and (i == 0 or words[i - 1] != "--bits")]
    return shlex.join(kept)


def _pictures(found: Diagnosis, valley: Slice | None) -> list[dict[str, str]]:
    """The SVG texts with their words; the valley only where its hundreds of passes are cheap."""
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(found, Path(folder), valley)
        return [
            {"title": _WORDS[p.stem][0], "alt": _WORDS[p.stem][1], "svg": p.read_text(encoding="utf-8")} for p in paths
        ]
