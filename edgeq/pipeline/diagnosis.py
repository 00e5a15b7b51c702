"""The basin-exit diagnostic as a stage: on the probe samples, with the repair and the training probe."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from edgeq.basin.diagnose import Diagnosis, diagnose
from edgeq.basin.diagnose import Options as BasinOptions
from edgeq.basin.divergence import refer
from edgeq.basin.landscape import Point
from edgeq.basin.pictures import draw
from edgeq.basin.remedy import remedy
from edgeq.basin.repair import repair
from edgeq.basin.report import to_json
from edgeq.basin.simulated import landscape_of
from edgeq.basin.valley import take_slice
from edgeq.basin.verdict import Thresholds
from edgeq.calibration.methods import method
from edgeq.calibration.sequential import sequential
from edgeq.graph.macs import macs
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan
from edgeq.plan.store import digest
from edgeq.progress import Reporter
from edgeq.release.release import Picture
from edgeq.run_folder import RunFolder

_BATCH = 64
_TRIAL_BATCHES = 2
_PICTURE_SAMPLES = 32
#: Multiply-accumulates of a model whose valley is drawn.
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
        command: what the remedies add to.
    """
    assert sets.probe is not None
    probe = sets.probe

    def compute() -> bytes:
        landscape, simulated = landscape_of(model.graph, plan)
        thresholds = Thresholds(tolerated=options.budgets.accuracy_drop or 0.01)
        size = sum(macs(model.graph, model.shapes).values())
        chosen, count = BasinOptions.for_size(size, None, thresholds, options.seed)
        training = model.batches(sets.calibration.take(min(2 * count, _TRAINING_SAMPLES), options.seed), _BATCH)
        found = diagnose(
            landscape,
            model.batches(probe.take(count, options.seed), _BATCH),
            training=training,
            repair=lambda candidate: repair(simulated, candidate, training),
            rounding=lambda: landscape_of(model.graph, _better_rounded(model, plan, training))[0],
            options=chosen,
            progress=lambda what, done, total: reporter.advance(int(done), int(total)),
        )
        blamed = [layer.name for layer in found.layers]
        safe = {layer.name: None if layer.width is None else layer.width.safe_bits for layer in found.layers}
        content = to_json(found, remedy(found.verdict, command, blamed, safe))
        # Time is not a result: the same inputs give the same report.
        few = model.batches(probe.take(_PICTURE_SAMPLES, options.seed), _PICTURE_SAMPLES)
        content["pictures"] = _pictures(found, few, valley=size <= _LARGEST_VALLEY)
        content["cost"].pop("seconds", None)
        content["cost"].pop("promised_seconds", None)
        return json.dumps(content, sort_keys=True).encode()

    key: dict[str, Any] = {
        "plan": digest(plan),
        "model": model.digest,
        "data": sets.digests["calibration"],
        "command": command,
    }
    key |= {"tolerated": options.budgets.accuracy_drop, "seed": options.seed}
    content: dict[str, Any] = json.loads(folder.stage("diagnosis", key, compute))
    return content, tuple(Picture(**picture) for picture in content.pop("pictures"))


def _pictures(found: Diagnosis, samples: list[tuple[torch.Tensor, ...]], *, valley: bool) -> list[dict[str, str]]:
    """The SVG texts with their words; the valley only where its hundreds of passes are cheap."""
    others: dict[str, Point] = {}
    if found.probe is not None:
        others[f"{found.probe.steps[-1]} steps of training"] = found.probe.point
    if found.rounded_point is not None:
        others["better rounding"] = found.rounded_point
    slice_ = None
    if valley and others:
        slice_ = take_slice(found.landscape, refer(found.landscape, samples, found.task), others)
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(found, Path(folder), slice_)
        return [
            {"title": _WORDS[p.stem][0], "alt": _WORDS[p.stem][1], "svg": p.read_text(encoding="utf-8")} for p in paths
        ]


def _better_rounded(model: Model, plan: Plan, samples: list[tuple[torch.Tensor, ...]]) -> Plan:
    """The trial of better rounding on the plan's own activation grids."""
    trial = method("gptq+variance")
    assert trial.rounding is not None
    return sequential(
        model.graph,
        plan.skeleton,
        plan.activations,
        samples[:_TRIAL_BATCHES],
        trial.rounding,
        method=trial.name,
        match_variance=trial.match_variance,
    )
