"""Instructions of one inference on three ARM CPU models, float and integer, counted twice each in fresh processes.

    python benchmarks/instructions.py [MODEL ...] [CPU ...]     # writes benchmarks/results/instructions.md

Rows of models and CPUs that were not run stay as they are. The last column is over all counted inferences: the medians
of two processes, which are the figures, differ less.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.devices import load_profile
from edgeq.devices.instructions import InstructionCount, count_instructions
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import to_torch
from edgeq.graph.sources import load_model
from edgeq.plan.rules import Request, decide

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, Case

RESULTS = Path(__file__).parent / "results"
_CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
_HEADER = (
    "| model | runtime | CPU | float, million | integer, million | ratio | repeats differ by at most |\n"
    "|---|---|---|---|---|---|---|"
)


def main(wanted: list[str]) -> None:
    """Count and write the table."""
    cpus = [cpu for cpu in _CPUS if cpu in wanted] or _CPUS
    names = [name for name in wanted if name not in _CPUS] or ["resnet20"]
    for case in (case for case in CASES if case.name in names):
        files = _files(case)
        for device in ("arm64-litert", "arm64-onnxruntime"):
            profile = load_profile(device)
            for cpu in cpus:
                emulated = replace(profile, transport=replace(profile.transport, cpu=cpu))
                counts = [[count_instructions(emulated, data) for _ in range(2)] for data in files[profile.artifact]]
                middles = [sum(count.median for count in twice) / 2 for twice in counts]
                spread = max(_spread(twice) for twice in counts)
                shown = " | ".join(f"{middle / 1e6:.3f}" for middle in middles)
                ratio = middles[1] / middles[0]
                _write(f"| {case.name} | {profile.runtime} | {cpu} |", f" {shown} | {ratio:.3f} | {spread:.2%} |")


def _write(key: str, rest: str) -> None:
    """Put a row into the table, in place of the one of the same key."""
    print(key + rest, flush=True)
    path = RESULTS / "instructions.md"
    before = path.read_text(encoding="utf-8").splitlines()[2:] if path.is_file() else []
    rows = sorted([*(line for line in before if not line.startswith(key)), key + rest])
    path.write_text("\n".join([_HEADER, *rows]) + "\n", encoding="utf-8")


def _files(case: Case) -> dict[str, tuple[bytes, bytes]]:
    """(float, integer) in each format."""
    graph = load_model(case.model)
    skeleton = decide(graph, Request())
    calibration = [(torch.from_numpy(case.data()[0]["x"][:100]),)]
    plan = nearest(graph, skeleton, observe(to_torch(graph), calibration, skeleton))
    return {
        "onnx": (onnx_format.export(graph, None), onnx_format.export(graph, plan, activations="int8")),
        "tflite": (tflite_format.export(graph, None, io="float32"), tflite_format.export(graph, plan, io="int8")),
    }


def _spread(twice: list[InstructionCount]) -> float:
    """Over all inferences of both processes."""
    return (max(c.highest for c in twice) - min(c.lowest for c in twice)) / twice[0].median


if __name__ == "__main__":
    main(sys.argv[1:])
