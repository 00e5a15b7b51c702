"""Cases: what the diagnostic says of a candidate, beside what then really happened. One line of JSON for each case.

    python benchmarks/diagnostic/cases.py [--models a,b] [--only EXPRESSION] [--out FILE] [--cache DIR]

A case is a model x bits x granularity x method. For each: the readings as given and after the repair, the probe, the
usual measures (SQNR, weight error, cosine of layer outputs, Hessian trace x error); and the truth on labelled test
samples: accuracy of the float model, the candidate, the repaired one, the best of better rounding (GPTQ with variances
matched, repaired), and a short label-free QAT. Lines are appended as they are computed; what is already there is not
computed again.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from measures import Trace, usual_measures
from subjects import SPLIT, Subject, subject

from edgeq.basin.blame import blame
from edgeq.basin.divergence import Reference, altitude, refer
from edgeq.basin.landscape import Batches, Landscape, Point
from edgeq.basin.probe import probe
from edgeq.basin.reading import Reading, read
from edgeq.basin.repair import repair
from edgeq.basin.simulated import landscape_of
from edgeq.calibration.methods import METHODS
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges, observe
from edgeq.graph.execute import to_torch
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide

TAU = 0.05
#: The method that stands for better rounding.
BETTER = "gptq+variance"


@dataclass(frozen=True)
class Setting:
    """One way to quantize."""

    bits: str
    granularity: str
    method: str

    @property
    def key(self) -> str:
        return f"{self.bits}/{self.granularity}/{self.method}"


def settings(name: str) -> Iterator[Setting]:
    """The settings of a model; the two large ones get fewer."""
    large = name in ("resnet20", "stories260k")
    for bits in (2, 3, 4, 5) if large else (2, 3, 4, 5, 6, 8):
        yield Setting(f"w{bits}", "channel", "nearest")
    if large:
        yield Setting("w4", "tensor", "nearest")
        yield Setting("w2", "channel", "gptq")
        return
    for bits in (2, 3, 4, 5, 6):
        yield Setting(f"w{bits}", "tensor", "nearest")
    for bits in (2, 3, 4):
        yield Setting(f"w{bits}", "channel", "gptq")
    for text in ("w8a8", "w4a8", "w3a8", "w8a4", "w4a4"):
        yield Setting(text, "channel", "nearest")


@dataclass(eq=False)
class Bench:
    """One model, ready for its cases."""

    subject: Subject

    def __post_init__(self) -> None:
        s = self.subject
        self.module = to_torch(s.graph)
        self.calibration = batches(s.training[: 128 if s.batch > 32 else 40], 32 if s.batch > 32 else 20)
        self.training = batches(s.training, s.batch)
        self.fixing = batches(s.training[: 256 if s.batch > 32 else 60], s.batch)
        self.probe = batches(s.probe, s.batch)
        self.trace: Trace | None = None

    def plan(self, setting: Setting) -> Plan:
        skeleton = decide(
            self.subject.graph, Request(Bits.parse(setting.bits), per_channel=setting.granularity == "channel")
        )
        observed = skeleton.groups
        ranges = observe(self.module, self.calibration, skeleton) if observed else Ranges({}, {}, 0, "none")
        if setting.method == "nearest":
            return nearest(self.subject.graph, skeleton, ranges)
        method = next(method for method in METHODS if method.name == BETTER)
        return method(self.subject.graph, skeleton, ranges, self.fixing)

    def accuracy(self, landscape: Landscape, point: Point, blend: float) -> float:
        x, y = self.subject.test
        right, total = 0, 0
        with torch.no_grad():
            for (part,), labels in zip(batches(x, self.subject.batch), y.split(self.subject.batch), strict=True):
                chosen = landscape.run(point, (part,), blend)[0].argmax(-1)
                right += int((chosen == labels).sum())
                total += labels.numel()
        return right / total


def batches(x: torch.Tensor, size: int) -> Batches:
    return [(part,) for part in x.split(size)]


def measure(bench: Bench, setting: Setting) -> dict[str, object]:
    """One case."""
    started = time.process_time()
    raw, model = landscape_of(bench.subject.graph, bench.plan(setting))
    reference = refer(raw, bench.probe)
    blend = 1.0 if raw.activations else 0.0
    first = read(raw, reference, TAU)
    fixed = repair(model, raw, bench.fixing)
    second = read(fixed, reference, TAU)
    best, reading = (fixed, second) if second.D.estimate < first.D.estimate else (raw, first)
    taught = refer(raw, bench.training[: max(1, 2048 // bench.subject.batch)])
    trial = probe(best, taught, reference)
    seconds = time.process_time() - started
    began = time.process_time()
    rounded, rounded_height = best_rounding(bench, setting, reference)
    rounding_seconds = time.process_time() - began
    trained = probe(best, taught, reference, steps=bench.subject.qat_steps, checks=8)
    if bench.trace is None:
        bench.trace = Trace.of(raw, reference)
    return {
        "model": bench.subject.name, "fitting": SPLIT[bench.subject.name], "setting": asdict(setting),
        "task": reference.divergence.task, "chance": first.chance,
        "raw": numbers(first), "repaired": numbers(second), "helps": best is fixed,
        "probe": {"deployed": trial.deployed, "latent": trial.latent, "flipped": trial.flipped, "fall": trial.fall},
        "qat": {"deployed": trained.deployed, "latent": trained.latent, "flipped": trained.flipped},
        "rounding": {"D": rounded_height, "seconds": round(rounding_seconds, 2)},
        "usual": usual_measures(model, raw, reference.first(64), bench.trace),
        "truth": {
            "float": bench.accuracy(raw, raw.origin, 0.0),
            "raw": bench.accuracy(raw, raw.deployed, blend),
            "repaired": bench.accuracy(fixed, fixed.deployed, blend),
            "rounding": bench.accuracy(rounded, rounded.deployed, blend),
            "qat": bench.accuracy(best, trained.point, blend),
        },
        "blame": blame_trial(bench, raw, reference) if _blames(setting) else None,
        "seconds": round(seconds, 2), "inward_signs": None if reading.I is None else reading.I.p_value,
    }  # fmt: skip


def _blames(setting: Setting) -> bool:
    return setting.method == "nearest" and "a" not in setting.bits and setting.bits in ("w2", "w3", "w4")


def best_rounding(bench: Bench, setting: Setting, reference: Reference) -> tuple[Landscape, float]:
    """GPTQ on the same grid with its variances matched, as it is or repaired: what is lower on the probe samples."""
    landscape, model = landscape_of(bench.subject.graph, bench.plan(Setting(setting.bits, setting.granularity, "gptq")))
    candidates = [landscape, repair(model, landscape, bench.fixing)]
    blend = 1.0 if landscape.activations else 0.0
    heights = [float(altitude(c, c.deployed, reference, blend)[0].mean()) for c in candidates]
    best = int(np.nanargmin(heights))
    return candidates[best], heights[best]


def numbers(reading: Reading) -> dict[str, object]:
    """A reading as plain numbers."""
    return {
        "D": reading.D.estimate, "D_low": reading.D.low, "D_high": reading.D.high,
        "weights_D": reading.weights_D, "A": None if reading.A is None else reading.A.changed,
        "A_upper": None if reading.A is None else reading.A.upper, "K": reading.K, "R": reading.R.estimate,
        "p": reading.p.estimate, "I": None if reading.I is None else reading.I.value, "t_star": _plain(reading.t_star),
        "ts": reading.path.ts, "phi": [float(v) for v in reading.path.phi],
        "steepest": reading.steepest, "edge": _plain(reading.path.edge), "behind": reading.path.behind,
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def blame_trial(bench: Bench, landscape: Landscape, reference: Reference) -> dict[str, object]:
    """Accuracy with a fifth of the layers left in float, chosen by blame and by the usual measures."""
    few = reference.first(64)
    count = max(1, round(len(landscape.layers) / 5))
    shares = blame(landscape, few).by_layer
    names = [layer.name for layer in landscape.layers]
    alone = {
        layer.name: float(altitude(landscape, landscape.at(1.0, [layer]), few, 0.0)[0].mean())
        for layer in landscape.layers
    }
    noise = {
        layer.name: float(
            (landscape.deployed[layer.weight] - landscape.origin[layer.weight]).square().sum()
            / landscape.origin[layer.weight].square().sum()
        )
        for layer in landscape.layers
    }
    generator = np.random.default_rng(0)
    chosen = {"blame": best_of(shares, count), "alone": best_of(alone, count), "sqnr": best_of(noise, count)}
    found: dict[str, object] = {"layers": len(names), "count": count}
    for rule, kept in chosen.items():
        found[rule] = bench.accuracy(landscape, without(landscape, kept), 0.0)
    drawn = [set(generator.choice(names, count, replace=False)) for _ in range(5)]
    found["random"] = float(np.mean([bench.accuracy(landscape, without(landscape, k), 0.0) for k in drawn]))
    return found


def best_of(scores: dict[str, float], count: int) -> set[str]:
    return set(sorted(scores, key=lambda name: -scores[name])[:count])


def without(landscape: Landscape, kept: set[str]) -> dict[str, torch.Tensor]:
    """The candidate with those layers in float."""
    return landscape.at(1.0, [layer for layer in landscape.layers if layer.name not in kept])


def main() -> None:
    """Measure what is not yet measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(SPLIT))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cases.jsonl")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[2] / "build" / "diagnostic")
    parser.add_argument("--only", default="", help="settings that match this expression, e.g. '^w[234]/'")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.parent.mkdir(exist_ok=True)
    done = {f"{r['model']}/{r['setting']['bits']}/{r['setting']['granularity']}/{r['setting']['method']}"
            for r in map(json.loads, given.out.read_text().splitlines())} if given.out.exists() else set()  # fmt: skip
    for name in given.models.split(","):
        left = [s for s in settings(name) if f"{name}/{s.key}" not in done and re.search(given.only, s.key)]
        bench = Bench(subject(name, given.cache)) if left else None
        for setting in left:
            assert bench is not None
            row = measure(bench, setting)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            truth = row["truth"]
            assert isinstance(truth, dict)
            print(name, setting.key, {k: round(v, 3) for k, v in truth.items()}, row["seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
