"""What a diagnosis costs: promised before it starts, and taken, in CPU seconds of one thread, step by step.

python benchmarks/diagnostic/cost.py [resnet20/w3a8 efficientnet_lite0/w8a8 ...]     # merges into results/cost.md
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from candidates import NO_RANGES, batches
from subjects import Subject, subject

from edgeq.basin.cost import Cost, Options
from edgeq.basin.diagnose import Diagnosis, Progress
from edgeq.basin.landscape import Batches
from edgeq.basin.verdict import Thresholds
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.macs import macs
from edgeq.pipeline.diagnosis import Candidate, candidate_of_plan, examine
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide

RESULTS = Path(__file__).parent / "results"
DEFAULT = (
    "kws_dscnn/w8a8",
    "kws_dscnn/w2a8",
    "resnet20/w8a8",
    "resnet20/w3a8",
    "efficientnet_lite0/w8a8",
    "efficientnet_lite0/w4a8",
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A candidate by rounding to nearest, with the samples and options of the product for a model of its size."""

    candidate: Candidate
    probe: Batches
    training: Batches
    bits: Bits
    options: Options

    @classmethod
    def of(cls, name: str, bits: str) -> "Prepared":
        """Load the model and quantize it."""
        found = subject(name, Path(__file__).parents[2] / "build" / "diagnostic")
        size = sum(macs(found.graph, shapes(found.graph, to_torch(found.graph))).values())
        options, count = Options.for_size(size, None, Thresholds())
        training = batches(found.training[: 2 * count], min(found.batch, 32))
        candidate = candidate_of_plan(found.graph, _plan(found, bits), training)
        probe = batches(found.probe[:count], min(found.batch, 32))
        return cls(candidate, probe, training, Bits.parse(bits), options)

    def examine(
        self, announce: Callable[[Cost], None] | None = None, progress: Progress | None = None
    ) -> tuple[Diagnosis, tuple[str, ...]]:
        """The diagnosis and its remedies."""
        return examine(
            self.candidate, self.probe, self.training, "edgeq convert m.onnx --data d.npz", self.bits, self.options,
            announce=announce, progress=progress,
        )  # fmt: skip


def measure(name: str, bits: str) -> dict[str, Any]:
    """One diagnosis with all its steps; nothing is drawn."""
    prepared = Prepared.of(name, bits)
    promised: list[Cost] = []
    steps: list[tuple[str, float]] = []
    began = time.process_time()
    diagnosis, _ = prepared.examine(
        promised.append,
        lambda what, done, total: steps.append((what.split(" of ")[0], time.process_time())),
    )
    ended = time.process_time()
    by_step: dict[str, float] = {}
    for (what, start), stop in zip(steps, [*(s for _, s in steps[1:]), ended], strict=True):
        by_step[what] = by_step.get(what, 0.0) + stop - start
    return {
        "case": f"{name}/{bits}", "verdict": diagnosis.verdict.name, "samples": diagnosis.samples,
        "promised": round(promised[0].seconds, 1), "promised_healthy": round(promised[0].healthy_seconds, 1),
        "taken": round(ended - began, 1), "wall": round(diagnosis.seconds, 1),
        "steps": {what: round(seconds, 1) for what, seconds in by_step.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


def _plan(found: Subject, bits: str) -> Plan:
    skeleton = decide(found.graph, Request(Bits.parse(bits)))
    seen = batches(found.training[: found.calibration], min(found.batch, 32))
    ranges = observe(to_torch(found.graph), seen, skeleton) if skeleton.groups else NO_RANGES
    return nearest(found.graph, skeleton, ranges)


def main(wanted: Sequence[str]) -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    store = RESULTS / "cost.json"
    rows = {row["case"]: row for row in json.loads(store.read_text(encoding="utf-8"))} if store.exists() else {}
    for case in wanted:
        rows[case] = measure(*case.split("/"))
        store.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
    text = ["# What a diagnosis costs\n"]
    text += ["One thread. The promise is in wall seconds of the machine at that moment: if healthy, and at most.\n"]
    text += [
        "| case | verdict | probe samples | promised s | wall s | CPU s | peak MB of the process | by step, CPU s |"
    ]
    text += ["|---|---|---|---|---|---|---|---|"]
    for row in rows.values():
        steps = ", ".join(f"{what} {seconds}" for what, seconds in row["steps"].items())
        text.append(f"| {row['case']} | {row['verdict']} | {row['samples']} "
                    f"| {row['promised_healthy']} to {row['promised']} | {row['wall']} | {row['taken']} "
                    f"| {row['peak_mb']} | {steps} |")  # fmt: skip
    (RESULTS / "cost.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main(sys.argv[1:] or DEFAULT)
