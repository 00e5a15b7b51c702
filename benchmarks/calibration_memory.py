"""Peak memory of calibration with 128, 512 and 2,048 images, each observer in a process of its own: it must be flat.

python benchmarks/calibration_memory.py     # writes benchmarks/results/calibration_memory.md
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, write_samples

COUNTS = (128, 512, 2048)
OBSERVERS = ("min-max", "percentile", "mse", "entropy")

_CHILD = """
import sys
from edgeq.calibration.data import open_dataset
from edgeq.calibration.observers import BY_NAME
from edgeq.calibration.ranges import observe
from edgeq.calibration.specs import input_specs
from edgeq.graph.execute import to_torch
from edgeq.graph.sources import load_model
from edgeq.plan.rules import Request, decide
model, data, observer, count = sys.argv[1:]
graph = load_model(model)
dataset = open_dataset(data, input_specs(graph.inputs)).subset(range(int(count)))
skeleton, module = decide(graph, Request()), to_torch(graph)

def status(key):
    line = next(l for l in open("/proc/self/status") if l.startswith(key))
    return int(line.split()[1])

open("/proc/self/clear_refs", "w").write("5")  # Linux: the peak starts anew from here, without the imports
before = status("VmRSS")
observe(module, dataset, skeleton, BY_NAME[observer])
print(before, status("VmHWM"))
"""


def peak_megabytes(model: Path, data: Path, observer: str, count: int) -> tuple[float, float]:
    """(resident memory before calibration, peak during it) of a fresh process, in MB."""
    command = [sys.executable, "-c", _CHILD, str(model), str(data), observer, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak = (int(part) / 1024 for part in done.stdout.split())
    return before, peak


def main() -> None:
    """Measure ResNet-20."""
    case = CASES[0]
    lines = ["| observer | images | peak MB during calibration | of it there before |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        data, _ = write_samples(case, Path(folder))
        for observer in OBSERVERS:
            for count in COUNTS:
                before, peak = peak_megabytes(case.model, data, observer, count)
                lines.append(f"| {observer} | {count:,} | {peak:.0f} | {before:.0f} |")
                print(lines[-1], flush=True)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "calibration_memory.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
