"""Is the latency ratio the same when it is measured again, and while other cores are busy?

    python benchmarks/devices_latency.py REFERENCE CANDIDATE      # writes benchmarks/results/devices_latency.md

Two files for the same runtime. Each condition is measured several times; every two intervals should overlap.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeq.devices import load_profile
from edgeq.devices.profiling import default_device, profile_artifact
from edgeq.measurement import Interval

RESULTS = Path(__file__).parent / "results"
_REPEATS = 3


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Some processes that do nothing but count."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main(reference: Path, candidate: Path) -> None:
    """Measure and write the table."""
    profile = load_profile(default_device(candidate, os.uname().machine))
    conditions = {"quiet": 0, "one core busy": 1}
    lines = ["| condition | float ms | integer ms | ratio (95 % interval) |", "|---|---|---|---|"]
    found: list[Interval] = []
    for repeat, (condition, processes) in itertools.product(range(_REPEATS), conditions.items()):
        with busy(processes):
            comparison = profile_artifact(profile, candidate, reference, runs=400, seed=repeat).comparison
        assert comparison is not None
        ratio = comparison.ratio
        found.append(ratio)
        lines.append(
            f"| {condition} | {comparison.reference.median_ms:.3f} | {comparison.candidate.median_ms:.3f} "
            f"| {ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) |"
        )
        print(lines[-1], flush=True)
    overlapping = [max(a.low, b.low) <= min(a.high, b.high) for a, b in itertools.combinations(found, 2)]
    lines.append(f"\n{sum(overlapping)} of {len(overlapping)} pairs of intervals overlap.")
    print(lines[-1])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "devices_latency.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
