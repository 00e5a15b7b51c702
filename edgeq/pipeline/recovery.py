"""Recovery as a stage: short QAT from the plan, on the unlabelled data that no other set holds."""

import json

import torch

from edgeq.errors import DataError
from edgeq.graph.graph import name
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan
from edgeq.plan.store import digest, dump, restore
from edgeq.progress import Reporter
from edgeq.recovery.outcome import Progress
from edgeq.recovery.recover import recover
from edgeq.recovery.samples import Shuffled
from edgeq.recovery.stopping import Budget
from edgeq.release.release import Recovery, RecoveryPoint
from edgeq.run_folder import RunFolder

#: Training samples are held in memory.
_MOST_SAMPLES = 20_000
_MOST_NUMBERS = 400_000_000
_BATCH = 64


def recover_plan(
    options: Options, model: Model, plan: Plan, sets: Sets, folder: RunFolder, reporter: Reporter
) -> tuple[Plan, Recovery]:
    """The better of the recovered plan and the given one, and the curve.

    Raises:
        DataError: there are no samples left to judge on.
    """
    assert options.recover_budget is not None
    budget = Budget.parse(options.recover_budget)
    if sets.probe is None:
        raise DataError("recovery needs held-out samples: give more than --samples of them in --data")
    probe = sets.probe
    key = {
        "plan": digest(plan),
        "model": model.digest,
        "data": sets.digests["calibration"],
        "budget": options.recover_budget,
        "seed": options.seed,
    }

    def compute() -> bytes:
        training = sets.training().take(_most(model), options.seed)
        result = recover(
            model.graph,
            plan,
            Shuffled(model.joined(training), min(_BATCH, len(training)), seed=options.seed),
            model.batches(probe, _BATCH),
            budget,
            checkpoint_file=folder.path / f"recovery-{digest(plan)[:16]}.checkpoint",
            progress=lambda p: _report(p, reporter),
        )
        points = [{"step": point.step, "loss": point.deployed} for point in result.curve]
        header = {"kept": result.kept, "reason": result.reason, "points": points, "steps": result.steps}
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + dump(result.plan)

    stored = folder.stage("recovery", key, compute)
    length = int.from_bytes(stored[:8], "little")
    header = json.loads(stored[8 : 8 + length])
    points = tuple(RecoveryPoint(point["step"], point["loss"]) for point in header["points"])
    record = Recovery(f"QAT, {header['steps']} steps", points, header["kept"], header["reason"])
    return restore(stored[8 + length :], plan.skeleton), record


def _report(progress: Progress, reporter: Reporter) -> None:
    reporter.advance(progress.step, progress.steps)


def _most(model: Model) -> int:
    numbers = sum(int(torch.tensor(model.shapes[name(value)]).prod()) for value in model.graph.inputs)
    return max(64, min(_MOST_SAMPLES, _MOST_NUMBERS // max(1, numbers)))
