"""Recovery against the peers' quantization-aware training: same model, samples, CPU time and test images, in one run.

    python benchmarks/recovery_peers.py --bits 3 2 --seconds 30 120          # results/recovery_peers.json and .md
    python benchmarks/recovery_peers.py --bits 2 --seconds 30 --only torchao --labels
    python benchmarks/recovery_peers.py --bits 4 3 --activations 4 --seconds 120
    python benchmarks/recovery_peers.py --model resnet56 --bits 2 --seconds 120

First and last layer have 8 bits: their weights and what they read and make. Every tool has the float model, the
same unlabelled training samples, the first 512 of them at most to calibrate its start, and so many CPU seconds of one
core to train; all are judged on the same test samples (2,000 at most) in their own simulation (our exported file's
agreement with it is in recovery.md). Ours starts from second-order rounding, "from statistics" from rounding to
nearest on MSE scales with corrected means and variances, "from nearest" from rounding to nearest on scales that cover
all weights, its repair of the statistics then being part of the time; it trains by its own recipe, in as many steps as
take the time. The peers train by one loop (``peers_qat/loop.py``): label-free as ours, or, with --labels, on labels as
is their custom.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.contract import float_module
from peers.environments import UnavailableError, python
from peers.subjects import subject
from peers_qat.loop import Job
from recovery import judged, outputs, start, top1
from recovery_cases import MODELS, Case

from edgeq.calibration.repair import repair
from edgeq.graph.execute import to_torch
from edgeq.plan.bits import Bits
from edgeq.plan.rules import decide
from edgeq.recovery import Budget, Shuffled, recover

RESULTS = Path(__file__).parent / "results"
TESTED = 2000
CALIBRATION = 512
OURS = ("edgeq", "edgeq from statistics", "edgeq from nearest")
PEERS = {"brevitas": "brevitas", "torchao": "torchao", "aimet": "aimet-torch"}
NETWORKS = ("resnet20", "resnet56", "kws_dscnn", "efficientnet_lite0")


def main() -> None:
    """Run what is asked for and merge it into the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NETWORKS, default=NETWORKS[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 2], help="of the weights")
    parser.add_argument("--activations", type=int, default=8, help="bits of the activations")
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 120.0], help="of CPU time")
    parser.add_argument("--only", nargs="+", choices=(*OURS, *PEERS), default=(*OURS, *PEERS))
    parser.add_argument("--labels", action="store_true", help="the peers' loss is that of the labels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for bits in options.bits:
        for seconds in options.seconds:
            for tool in options.only:
                labels = options.labels and tool not in OURS
                asked = Bits(bits, options.activations)
                case = Case(options.model, asked, 0)
                row = ours(tool, case, seconds) if tool in OURS else theirs(tool, case, seconds, labels=labels)
                key = f"{options.model} {asked}, {seconds:g} s, {tool}{' with labels' if labels else ''}"
                print(key, row, flush=True)
                merge(key, row)


def ours(tool: str, case: Case, seconds: float) -> dict[str, Any]:
    """As many steps as take that long, by a measured pace."""
    model = MODELS[case.model]
    graph, data = model.graph(), model.data()
    skeleton = decide(graph, case.request(graph))
    calibration = data.train[0][:CALIBRATION]
    chosen = tool.partition(" from ")[2] or "gptq+variance"
    plan = begun = start(graph, skeleton, calibration, chosen, repaired=False)
    data = replace(data, test=(data.test[0][:TESTED], data.test[1][:TESTED]))
    reference = outputs(to_torch(graph), data.test[0])
    samples, held_out = Shuffled((data.train[0],), model.batch), [(part,) for part in data.held_out.split(128)]
    began = time.process_time()
    if chosen == "nearest":
        plan = repair(graph, plan, [(calibration,)])
    spent = time.process_time() - began
    began = time.process_time()
    recover(graph, plan, samples, held_out[:4], Budget(steps=4))
    fixed = time.process_time()
    recover(graph, plan, samples, held_out[:4], Budget(steps=54))
    per_step = max((time.process_time() - fixed - (fixed - began)) / 50, 1e-3)
    began = time.process_time()
    result = recover(graph, plan, samples, held_out, Budget(steps=max(1, int((seconds - spent) / per_step))))
    spent += time.process_time() - began
    before, after = (judged(graph, p, data, top1, reference)["metric"] for p in (begun, result.plan))
    found = {"before": before, "after": after, "steps": result.steps, "CPU s": spent}
    return found | {"float": top1(reference, data.test[1])}


def theirs(tool: str, case: Case, seconds: float, *, labels: bool) -> dict[str, Any]:
    """A peer in its own environment."""
    try:
        interpreter = python(PEERS[tool])
    except UnavailableError as error:
        return {"failed": str(error)}
    data, bits, source = MODELS[case.model].data(), case.bits, subject(case.model).factory
    assert source is not None
    with tempfile.TemporaryDirectory() as name:
        arrays, job, weights = (Path(name) / file for file in ("samples.npz", "job.json", "weights.pt"))
        torch.save(float_module(source).state_dict(), weights)
        (x, y), (test, truth) = data.train, data.test
        np.savez(arrays, x=x, y=y, test=test[:TESTED], truth=truth[:TESTED])
        asked = Job(
            (str(source[0]), source[1], str(weights)),
            str(arrays),
            bits.weights,
            bits.activations,
            CALIBRATION,
            seconds,
            labels,
        )
        job.write_text(json.dumps(asdict(asked)), encoding="utf-8")
        run = subprocess.run(
            [interpreter, "-m", f"peers_qat.{tool}", str(job)],
            cwd=Path(__file__).parent,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        return {"failed": (run.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def merge(key: str, row: dict[str, Any]) -> None:
    """Into the JSON and the table."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "recovery_peers.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results[key] = row
    file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    (RESULTS / "recovery_peers.md").write_text(table(results), encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        "| model and bits (first and last layer 8), CPU time, tool | start | trained | steps | CPU s |",
        "|---|---|---|---|---|",
    ]
    for name, r in sorted(results.items()):
        if "failed" in r:
            lines.append(f"| {name} | failed: {r['failed']} | | | |")
        else:
            lines.append(f"| {name} | {r['before']:.2f} | {r['after']:.2f} | {r['steps']} | {r['CPU s']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
