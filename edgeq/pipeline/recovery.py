"""Recovery as a stage: led by the diagnosis, on the unlabelled data that no other set holds."""

import json

import torch

from edgeq.calibration.grids import activation_grids
from edgeq.calibration.methods import method
from edgeq.calibration.ranges import observe
from edgeq.calibration.sequential import sequential
from edgeq.errors import DataError
from edgeq.graph.graph import name
from edgeq.pipeline.diagnosis import diagnose_plan
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan
from edgeq.plan.store import digest, dump, restore
from edgeq.plan.wider import wider
from edgeq.progress import Reporter
from edgeq.recovery.guided import Advice, Guided, guided
from edgeq.recovery.outcome import Progress, RecoveryResult
from edgeq.recovery.samples import Shuffled
from edgeq.recovery.stopping import Budget
from edgeq.release.release import Recovery, RecoveryPoint
from edgeq.run_folder import RunFolder

#: Training samples are held in memory.
_MOST_SAMPLES = 20_000
_MOST_NUMBERS = 400_000_000
_BATCH = 64
#: A plan with more bits is rounded by this method on this many batches.
_METHOD = "gptq+variance"
_BATCHES = 4


def recover_plan(
    options: Options, model: Model, plan: Plan, sets: Sets, folder: RunFolder, reporter: Reporter
) -> tuple[Plan, Recovery]:
    """The best plan that the diagnosis and the budget lead to, and what was done.

    Raises:
        DataError: there are no samples left to judge on.
    """
    assert options.recover_budget is not None
    budget = Budget.parse(options.recover_budget)
    if sets.probe is None:
        raise DataError("recovery needs held-out samples: give more than --samples of them in --data")
    probe = sets.probe
    advice = _advice(options, model, plan, sets, folder, reporter)
    key = {
        "plan": digest(plan),
        "model": model.digest,
        "data": sets.digests["calibration"],
        "budget": options.recover_budget,
        "verdict": advice.verdict,
        "seed": options.seed,
    }

    def widen(layers: tuple[str, ...]) -> Plan:
        trial = method(_METHOD)
        assert trial.rounding is not None
        few = model.batches(sets.calibration, _BATCH)[:_BATCHES]
        wide = wider(plan.skeleton, layers)
        found = activation_grids(wide, observe(model.module, few, wide))
        grids = {v: own if own.bits == found[v].bits else found[v] for v, own in plan.activations.items()}
        return sequential(
            model.graph, wide, grids, few, trial.rounding, method=_METHOD, match_variance=trial.match_variance
        )

    def compute() -> bytes:
        training = sets.training().take(_most(model), options.seed)
        found = guided(
            model.graph,
            plan,
            Shuffled(model.joined(training), min(_BATCH, len(training)), seed=options.seed),
            model.batches(probe, _BATCH),
            budget,
            advice,
            widen,
            checkpoint_file=folder.place("recovery", key).with_suffix(".asked"),
            progress=lambda p: _report(p, reporter),
        )
        text = json.dumps(_header(found)).encode()
        return len(text).to_bytes(8, "little") + text + dump(found.plan)

    stored = folder.stage("recovery", key, compute)
    length = int.from_bytes(stored[:8], "little")
    header = json.loads(stored[8 : 8 + length])
    points = tuple(RecoveryPoint(point["step"], point["loss"]) for point in header["points"])
    record = Recovery(f"QAT, {header['steps']} steps", points, header["kept"], header["reason"])
    return restore(stored[8 + length :], wider(plan.skeleton, tuple(header["widened"]))), record


def _advice(options: Options, model: Model, plan: Plan, sets: Sets, folder: RunFolder, reporter: Reporter) -> Advice:
    command = "edgeq convert"  # the remedies that would begin with it are not shown here
    found, _ = diagnose_plan(options, model, plan, sets, folder, reporter, command)
    blame = tuple((layer["name"], layer["blame"] or 0.0) for layer in found["layers"])
    return Advice(found["verdict"], found["cause"], blame)


def _header(found: Guided) -> dict[str, object]:
    """What a stored recovery says of itself; the curves of several trainings are one behind the other."""
    points, before = [], 0
    for run in found.runs:
        points += [{"step": before + point.step, "loss": point.deployed} for point in run.curve]
        before += run.steps
    reason = "; ".join(
        (*found.did, *(_watched(run) for run in found.runs), *(w for r in found.runs for w in r.warnings))
    )
    return {"kept": found.kept, "reason": reason, "points": points, "steps": before, "widened": found.widened}


def _watched(run: RecoveryResult) -> str:
    """What the run's ends say of the basin."""
    first, last = run.curve[0], run.curve[-1]
    return (
        f"held-out D {first.deployed:.3g} to {last.deployed:.3g} (latent weights {last.latent:.3g}), "
        f"t* {first.t_star:.2f} to {last.t_star:.2f}, I {first.inward:.2g} to {last.inward:.2g}, "
        f"{last.flipped:.1%} of the codes flipped"
    )


def _report(progress: Progress, reporter: Reporter) -> None:
    reporter.advance(progress.step, progress.steps)


def _most(model: Model) -> int:
    numbers = sum(int(torch.tensor(model.shapes[name(value)]).prod()) for value in model.graph.inputs)
    return max(64, min(_MOST_SAMPLES, _MOST_NUMBERS // max(1, numbers)))
