"""Cases: what the diagnostic says of a candidate, beside what then really happened. One line of JSON for each case.

    python benchmarks/diagnostic/cases.py [--models a,b] [--only EXPRESSION] [--out FILE] [--cache DIR]

A case is a model x bits x granularity x method. For each: the readings as given, after the repair and after better
rounding, a trial of training from the lowest of the three, the usual measures (SQNR, weight error, cosine of layer
outputs, Hessian trace x error); and the truth on labelled test samples: the score of the float model, the candidate,
the repaired one, the best of better rounding (GPTQ with variances matched, as it is or repaired), and, where rounding
does not repair it, of ``edgeq.recovery`` from there. The table is written after every case; what is already there is
not computed again.
"""

import argparse
import json
import re
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from blame_trial import blame_trial
from candidates import Bench, Setting, States, settings, states
from measures import Trace, usual_measures
from subjects import SPLIT, subject
from truth import Row, truth

from edgeq.basin.divergence import Reference, refer
from edgeq.basin.probe import probe
from edgeq.basin.reading import Reading
from edgeq.basin.simulated import landscape_of
from edgeq.calibration.repair import repair
from edgeq.recovery import Budget, Options, Shuffled, recover


def measure(bench: Bench, setting: Setting, known: Row | None = None) -> Row:
    """One case; what an older table already knows of the same candidate is taken over."""
    started = time.process_time()
    reference = bench.reference
    found = states(bench, setting, reference)
    first, second, third = found.readings
    few = bench.training[: max(1, 2048 // bench.subject.batch)]
    taught = refer(found.raw, few, reference.divergence.task)
    trial = probe(found.start, taught, reference, batch=bench.probe_batch)
    row: Row = {
        "model": bench.subject.name, "fitting": SPLIT[bench.subject.name], "after_freeze": True,
        "setting": asdict(setting),
        "task": reference.divergence.task, "chance": first.chance, "probe_samples": len(reference),
        "test_samples": len(bench.subject.test[0]),
        "raw": numbers(first), "repaired": numbers(second), "rounded": numbers(third),
        "helps": second.finite and second.D.estimate < first.D.estimate,
        "start": ("raw", "repaired", "rounded")[(found.raw, found.repaired, found.rounded).index(found.start)],
        "probe": {"deployed": trial.deployed, "latent": trial.latent, "flipped": trial.flipped, "fall": trial.fall},
        "seconds": round(time.process_time() - started, 2),
    }  # fmt: skip
    same = known is not None and _close(known["raw"]["D"], first) and _close(known["rounding"]["D"], third)
    if known is not None and same:
        row |= {key: known[key] for key in ("truth", "qat", "usual", "blame")}
        row["truth"].pop("recovered", None)
    else:
        row |= outcomes(bench, found)
    if row["blame"] is None and _blames(setting) and bench.subject.blames:
        row["blame"] = blame_trial(bench, found.raw, reference)
    if row["qat"] is None and bench.subject.qat_steps:
        _train(bench, found, row, taught)
    if truth(row) in ("exit", "far") and bench.subject.recovery is not None:
        _recover(bench, found, row)
    return row


def _close(height: float, reading: Reading) -> bool:
    return abs(height - reading.D.estimate) <= 1e-3 * max(height, 1e-3)


def outcomes(bench: Bench, found: States) -> Row:
    """The scores on the test samples, and the usual measures."""
    blend = 1.0 if found.raw.activations else 0.0
    if bench.trace is None:
        bench.trace = Trace.of(found.raw, bench.reference)
    scores = {"float": bench.float_score(found.raw)}
    for name, landscape in (("raw", found.raw), ("repaired", found.repaired), ("rounding", found.rounded)):
        scores[name] = bench.score(landscape, landscape.deployed, blend)
    usual = usual_measures(found.model, found.raw, bench.reference.first(64), bench.trace)
    return {"truth": scores, "qat": None, "usual": usual, "blame": None}


def _train(bench: Bench, found: States, row: Row, taught: Reference) -> None:
    """A short QAT from the candidate itself (the theory's predictions are read from it)."""
    start = found.repaired if row["helps"] else found.raw
    trained = probe(start, taught, bench.reference, steps=bench.subject.qat_steps, checks=8)
    row["qat"] = {"deployed": trained.deployed, "latent": trained.latent, "flipped": trained.flipped}
    row["truth"]["qat"] = bench.score(start, trained.point, 1.0 if start.activations else 0.0)


def _recover(bench: Bench, found: States, row: Row) -> None:
    """The product's own recovery from the best rounding, judged on the test samples."""
    assert bench.subject.recovery is not None
    steps, size = bench.subject.recovery
    started = time.process_time()
    samples = Shuffled((bench.subject.training[:4_096],), size, seed=0)
    plan = found.plan
    if found.rounded_repaired:
        plan = repair(bench.subject.graph, plan, bench.fixing)
    result = recover(
        bench.subject.graph,
        plan,
        samples,
        bench.probe,
        Budget(steps=steps),
        options=Options(task=bench.reference.divergence.task, device="cpu"),
    )
    landscape, _ = landscape_of(bench.subject.graph, result.plan)
    row["truth"]["recovered"] = bench.score(landscape, landscape.deployed, 1.0 if landscape.activations else 0.0)
    row["recovery"] = {
        "steps": result.steps, "kept": result.kept, "deployed": [p.deployed for p in result.curve],
        "latent": [p.latent for p in result.curve], "seconds": round(time.process_time() - started, 1),
    }  # fmt: skip


def _blames(setting: Setting) -> bool:
    return setting.method == "nearest" and "a" not in setting.bits and setting.bits in ("w2", "w3", "w4")


def numbers(reading: Reading) -> dict[str, object]:
    """A reading as plain numbers."""
    return {
        "D": reading.D.estimate, "D_low": reading.D.low, "D_high": reading.D.high,
        "weights_D": reading.weights_D, "A": None if reading.A is None else reading.A.changed,
        "A_upper": None if reading.A is None else reading.A.upper, "E": None if reading.E is None else reading.E.value,
        "E_upper": None if reading.E is None else reading.E.upper, "K": reading.K, "R": reading.R.estimate,
        "p": reading.p.estimate, "I": None if reading.I is None else reading.I.value, "t_star": _plain(reading.t_star),
        "ts": reading.path.ts, "phi": [float(v) for v in reading.path.phi],
        "steepest": reading.steepest, "edge": _plain(reading.path.edge), "behind": reading.path.behind,
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def key_of(row: Row) -> str:
    """What tells a case from others."""
    return f"{row['model']}/{Setting(**row['setting']).key}"


def main() -> None:
    """Measure what is not yet measured, and what was measured before the newest columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(SPLIT))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cases.jsonl")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[2] / "build" / "diagnostic")
    parser.add_argument("--only", default="", help="settings that match this expression, e.g. '^w[234]/'")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no case after so many")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    given.out.parent.mkdir(exist_ok=True)
    rows = {key_of(r): r for r in map(json.loads, given.out.read_text().splitlines())} if given.out.exists() else {}
    for name in given.models.split(","):
        wanted = [s for s in settings(name) if re.search(given.only, s.key)]
        left = [s for s in wanted if "rounded" not in rows.get(f"{name}/{s.key}", {})]
        bench = Bench(subject(name, given.cache)) if left else None
        for setting in left:
            if time.monotonic() - began > 60 * given.minutes:
                return
            assert bench is not None
            row = measure(bench, setting, rows.get(f"{name}/{setting.key}"))
            rows[key_of(row)] = row
            given.out.write_text("".join(json.dumps(row) + "\n" for row in rows.values()), encoding="utf-8")
            scores = {k: round(v, 3) for k, v in row["truth"].items()}
            print(f"{name} {setting.key} {truth(row)} {scores} {row['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
