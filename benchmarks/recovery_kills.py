"""Kill -9 of a recovery at random moments: what is resumed must end, to the last bit, as what was never killed.

    python benchmarks/recovery_kills.py [COUNT]     # default 50; writes benchmarks/results/recovery_kills.md

The demonstration's network at 2-bit weights, a checkpoint after every step. Every process is forked from one that has
its imports done, killed a random time after a random number of checkpoints that it wrote (both seeded), and started
again, until it ends; then codes, scales, biases, the curve and the scores are compared with the uninterrupted run's. A
trial takes at most three kills, so that it comes to its end.
"""

import math
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.demo import EVALUATION, MODEL, TRAIN
from edgeq.graph.execute import to_torch
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request, decide
from edgeq.recovery import Budget, Options, Recipe, Shuffled, recover

RESULTS = Path(__file__).parent / "results"
STEPS = 24
MOST_KILLS = 3


def work(checkpoint: Path, result: Path) -> None:
    """One recovery; its numbers are written whole or not at all."""
    torch.set_num_threads(1)
    graph = load_model(MODEL)
    train = torch.from_numpy(np.load(TRAIN)["x"])
    held_out = [(part,) for part in torch.from_numpy(np.load(EVALUATION)["x"][:100]).split(50)]
    skeleton = decide(graph, Request(bits=Bits(2, 8)))
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(train[:200],)], skeleton))
    found = recover(
        graph, plan, Shuffled((train,), 16, seed=5), held_out, Budget(steps=STEPS),
        recipe=Recipe(freeze_above=0.05), options=Options(checkpoint_seconds=0.0), checkpoint_file=checkpoint,
    )  # fmt: skip
    numbers = {f"codes {name}": c.codes for name, c in found.plan.weights.items()}
    numbers |= {f"scale {name}": c.quantization.scale for name, c in found.plan.weights.items()}
    numbers |= {f"bias {name}": c.codes for name, c in found.plan.biases.items()}
    numbers |= {f"grid {name}": np.append(g.scale, g.zero_point) for name, g in found.plan.activations.items()}
    numbers["curve"] = np.array([(p.step, p.deployed, p.latent, p.flipped) for p in found.curve])
    numbers["after"] = found.after.divergence
    part = result.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **numbers)  # type: ignore[arg-type]
    part.rename(result)


def forked(checkpoint: Path, result: Path) -> int:
    """Start it in a process of its own; the process's id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(checkpoint, result)
            status = 0
        finally:
            os._exit(status)
    return child


def ended(child: int, checkpoint: Path, writes: float, seconds: float) -> bool:
    """Whether it ends by itself; killed so many seconds after so many checkpoints if it does not."""
    seen, last, until = 0, _stamp(checkpoint), math.inf
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if status:
                sys.exit(f"a run ended with status {status} without being killed")
            return True
        now = _stamp(checkpoint)
        seen, last = seen + (now != last), now
        if seen >= writes and until == math.inf:
            until = time.monotonic() + seconds
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _stamp(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def differing(one: Path, other: Path) -> list[str]:
    """Names of the arrays that are not equal."""
    with np.load(one) as first, np.load(other) as second:
        if first.files != second.files:
            return ["the names of the arrays"]
        return [name for name in first.files if not np.array_equal(first[name], second[name])]


def main() -> None:
    """Kill so many runs, compare, and write the result."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "whole.npz"
        first = folder / "whole.checkpoint"
        ended(forked(first, whole), first, math.inf, 0.0)
        kills = resumed = trials = different = 0
        while kills < count:
            checkpoint, result = folder / f"{trials}.checkpoint", folder / f"{trials}.npz"
            deaths = 0
            while not ended(
                forked(checkpoint, result),
                checkpoint,
                moments.randrange(STEPS // 3) if deaths < MOST_KILLS and kills < count else math.inf,
                moments.uniform(0.0, 0.1),
            ):
                deaths += 1
                kills += 1
                resumed += checkpoint.exists()
            wrong = differing(whole, result)
            different += bool(wrong)
            trials += 1
            print(f"trial {trials}: {deaths} kills, {kills} in all{', differs in ' + str(wrong) if wrong else ''}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recovery_kills.md").write_text(
        "| recoveries | kills | after a first checkpoint | results that differ from the uninterrupted one |\n"
        "|---|---|---|---|\n"
        f"| {trials} | {kills} | {resumed} | {different} |\n",
        encoding="utf-8",
    )
    if different:
        sys.exit(f"{different} of {trials} resumed runs differ")


if __name__ == "__main__":
    main()
