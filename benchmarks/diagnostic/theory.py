"""The theory's predictions, measured: fine grids leave no gap, the deployed loss falls first, float training fails.

    python benchmarks/diagnostic/theory.py [MODEL/BITS ...]     # writes results/theory.md

(i) and (ii) are read from ``results/cases.jsonl``. (iii) runs here, on a vision and a language model: the same steps,
samples, learning rate and optimizer with the gradient taken (a) at the deployed weights (STE), (b) at the float
weights, from the float model, rounded at the end, (c) the same from the deployed weights. Judged by what is deployed at
the end: held-out altitude and test accuracy. All start from the candidate after its statistics repair.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from candidates import Bench, Setting
from fit import RESULTS
from subjects import subject
from truth import Row, loses

from edgeq.basin.divergence import Reference, altitude, refer
from edgeq.basin.inward import gradient
from edgeq.basin.landscape import Landscape
from edgeq.basin.probe import Optimizer, latent_point, probe, rounded
from edgeq.basin.repair import repair
from edgeq.basin.simulated import landscape_of

DEFAULT = ("kws_dscnn/w2", "digits_cnn/w2", "character_gpt/w2")


_KINDS = {"vision": ("classes",), "language": ("tokens",)}


def fine_grids(rows: Sequence[Row]) -> list[str]:
    """(i): accuracy that QAT adds to the candidate as given, by bits of the weights (activations in float)."""
    lines = ["| models | bits | cases | QAT minus PTQ, points: mean (worst, best) |", "|---|---|---|---|"]
    for kind, tasks in _KINDS.items():
        for bits in (8, 6, 5, 4, 3, 2):
            gaps = [
                100 * (r["truth"]["qat"] - r["truth"]["raw"])
                for r in rows
                if r["setting"]["bits"] == f"w{bits}" and r["setting"]["method"] == "nearest" and "qat" in r["truth"]
                and r["task"] in tasks
            ]  # fmt: skip
            if gaps:
                spread = f"{np.mean(gaps):+.1f} ({min(gaps):+.1f}, {max(gaps):+.1f})"
                lines.append(f"| {kind} | {bits} | {len(gaps)} | {spread} |")
    return lines


def deployed_first(rows: Sequence[Row]) -> list[str]:
    """(ii): in recoveries that worked, does the deployed altitude fall while that of the latent weights need not?"""
    lines = []
    for kind, tasks in _KINDS.items():
        trained = [r for r in rows if r["qat"] is not None and loses(r) and r["task"] in tasks]
        worked = [r for r in trained if r["qat"]["deployed"][-1] < 0.5 * r["qat"]["deployed"][0]]
        fell = sum(r["qat"]["deployed"][1] < r["qat"]["deployed"][0] for r in worked)
        rose = sum(max(r["qat"]["latent"][1:]) > r["qat"]["latent"][0] for r in worked)
        above = sum(r["qat"]["latent"][-1] > r["qat"]["deployed"][-1] for r in worked)
        lines.append(
            f"- {kind}: {len(worked)} recoveries at least halved the held-out altitude: in {fell} it fell by the first "
            f"reading, in {rose} the latent weights' own altitude rose meanwhile, in {above} it ended *above* the "
            "deployed one's."
        )
    return lines


def controls(name: str, bits: str) -> list[str]:
    """(iii) on one model: one line for each way to train."""
    bench = Bench(subject(name, Path(__file__).parents[2] / "build" / "diagnostic"))
    raw, model = landscape_of(bench.subject.graph, bench.plan(Setting(bits, "channel", "nearest")))
    start = repair(model, raw, bench.fixing)
    reference = refer(raw, bench.probe)
    taught = refer(raw, bench.training[: max(1, 2048 // bench.subject.batch)])
    steps = bench.subject.qat_steps or 160
    ends = {
        "before": start.deployed,
        "(a) STE": probe(start, taught, reference, steps=steps, checks=8).point,
        "(b) float from the float model, then rounded": float_then_round(start, taught, steps, deployed=False),
        "(c) float from the deployed weights, then rounded": float_then_round(start, taught, steps, deployed=True),
    }
    lines = []
    for label, point in ends.items():
        height = float(altitude(start, point, reference, 0.0)[0].mean())
        lines.append(f"| {name} {bits} | {label} | {height:.3f} | {100 * bench.score(start, point, 0.0):.1f} % |")
    lines.append(f"| {name} | float model | 0 | {100 * bench.score(raw, raw.origin, 0.0):.1f} % |")
    return lines


def float_then_round(landscape: Landscape, taught: Reference, steps: int, *, deployed: bool) -> dict[str, torch.Tensor]:
    """Train real weights with the gradient at themselves; round when done."""
    latent = dict(landscape.deployed) if deployed else latent_point(landscape)
    optimizer = Optimizer(landscape, latent, steps)
    parts = list(taught.rebatched(32))
    for step in range(1, steps + 1):
        inputs, z0 = parts[(step - 1) % len(parts)]
        latent = optimizer.step(latent, gradient(landscape, latent, inputs, z0, taught, 0.0), step)
    return rounded(landscape, latent)


def main(wanted: Sequence[str]) -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in (RESULTS / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    text = ["# The theory's predictions\n", "## (i) A fine grid leaves no gap between PTQ and QAT\n", *fine_grids(rows)]
    text += ["\n## (ii) The deployed loss falls first\n", *deployed_first(rows)]
    text += ["\n## (iii) Float training of the same budget, then rounding\n"]
    text += ["| model | trained how | held-out D | test accuracy |", "|---|---|---|---|"]
    for each in wanted:
        name, bits = each.split("/")
        text += controls(name, bits)
        print("\n".join(text[-5:]), flush=True)
    (RESULTS / "theory.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main(sys.argv[1:] or DEFAULT)
