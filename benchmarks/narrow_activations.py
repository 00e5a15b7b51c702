"""Activations of 2 to 7 bits: what they cost beside the W8A8 file of the same model, and whether every code is right.

    python benchmarks/narrow_activations.py                                  # all; results/narrow_activations.md, .json
    python benchmarks/narrow_activations.py --model resnet20 --bits w4a4     # a part; merged into both

Both files of a pair run in turn, one thread. "bounds" is what else could be written in TFLite: codes in the middle of
int8, every value limited by MAXIMUM and MINIMUM. Outputs are compared with the integer simulation's on test samples.
"""

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import interpreter as litert
from assets import CASES

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.devices import Profile, load_profile, open_device
from edgeq.devices.artifact import read_artifact
from edgeq.devices.profiling import profile_artifact
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import family

RESULTS = Path(__file__).parent / "results"
MODELS = ("kws_dscnn", "resnet20", "resnet56", "efficientnet_lite0")
BITS = ("w4a4", "w3a3", "w2a2")
DEVICES = ("cpu-litert", "cpu-litert-builtin", "cpu-onnxruntime")
_CALIBRATION, _JUDGED, _RUNS = 128, 100, 300
_LIMITS = ("QUANTIZE", "MAXIMUM", "MINIMUM")


def main() -> None:
    """Measure what was asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--bits", nargs="+", default=BITS, choices=BITS)
    parser.add_argument("--device", nargs="+", default=DEVICES, choices=DEVICES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    stored = RESULTS / "narrow_activations.json"
    rows: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    for model in given.model:
        for bits in given.bits:
            for device in given.device:
                rows |= measured(model, bits, load_profile(device))
                stored.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")
                (RESULTS / "narrow_activations.md").write_text(table(rows), encoding="utf-8")


def measured(model: str, bits: str, profile: Profile) -> dict[str, Any]:
    """The rows of one model, format and device."""
    case = next(case for case in CASES if case.name == model)
    graph = load_model(case.model)
    calibration, test = (arrays["x"] for arrays in case.data())
    plans = {asked: _plan(graph, asked, calibration[:_CALIBRATION]) for asked in ("w8a8", bits)}
    written = {"": plans[bits]}
    if profile.artifact == "tflite":
        # As where zero points have to be 0: the exporter shifts nothing then.
        written["bounds"] = replace(plans[bits], skeleton=replace(plans[bits].skeleton, symmetric=True))
    rows = {}
    for variant, plan in written.items():
        data = _file(graph, plan, profile)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{key}.{profile.artifact}") for key in ("eight", "narrow")]
            for path, content in zip(paths, (_file(graph, plans["w8a8"], profile), data), strict=True):
                path.write_bytes(content)
            comparison = profile_artifact(profile, paths[1], paths[0], runs=_RUNS).comparison
            assert comparison is not None
            ratio = comparison.ratio
            row = {
                "ratio": [ratio.estimate, ratio.low, ratio.high],
                "milliseconds": [comparison.reference.median_ms, comparison.candidate.median_ms],
                "unequal": _unequal(graph, plan, profile, paths[1], test[:_JUDGED]),
                **(_shape(data) if profile.artifact == "tflite" else {}),
            }
        rows[f"{model} {bits} {profile.name} {variant}".strip()] = row
        print(model, bits, profile.name, variant, row, flush=True)
    return rows


def _plan(graph: Graph, bits: str, samples: np.ndarray[Any, Any]) -> Plan:
    skeleton = decide(graph, Request(bits=Bits.parse(bits)))
    return nearest(graph, skeleton, observe(to_torch(graph), [(torch.from_numpy(samples),)], skeleton))


def _file(graph: Graph, plan: Plan, profile: Profile) -> bytes:
    if profile.artifact == "tflite":
        return tflite_format.export(graph, plan)
    return onnx_format.export(graph, plan)


def _unequal(graph: Graph, plan: Plan, profile: Profile, path: Path, samples: np.ndarray[Any, Any]) -> int:
    """How many numbers of the first output are not the integer simulation's."""
    simulation = IntegerSimulation(graph, plan, family(profile.kernels))
    expected = simulation(torch.from_numpy(samples))
    first = expected[0] if isinstance(expected, tuple) else expected
    source, output = name(graph.inputs[0]), name(graph.outputs[0])
    layout = tflite_format.read(path.read_bytes()).layouts if profile.artifact == "tflite" else {}
    fed = samples.transpose(layout[source]) if source in layout else samples
    with open_device(profile) as device:
        found = device.run(device.load(read_artifact(path)), {source: np.ascontiguousarray(fed)})[output]
    return int((np.abs(found - first.numpy()) > 0.5 * float(plan.activations[output].scale)).sum())


def _shape(data: bytes) -> dict[str, Any]:
    """How many ops limit values, and in how many pieces the delegate takes the model."""
    used = Counter(operator.code for operator in tflite_format.read(data).operators)
    interpreter = litert.Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    pieces = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    return {"limits": {code: used[code] for code in _LIMITS if used[code]}, "pieces": len(pieces)}


def table(rows: dict[str, Any]) -> str:
    """The Markdown table."""
    head = ("model", "format", "runtime", "limited by", "pieces", "W8A8 ms", "ms", "ratio (95 %)", "≠ simulated")
    lines = [
        "# Activations of fewer than 8 bits beside the W8A8 file",
        "",
        "Pieces: into how many the delegate takes the model. (bounds): codes in the middle of int8 instead. The last",
        "column: how many numbers of the outputs are not the integer simulation's.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for key, row in sorted(rows.items()):
        model, bits, device, *variant = key.split()
        counts = row.get("limits", {"Clip behind each value": ""})
        limits = ", ".join(f"{count} {code}".strip() for code, count in counts.items()) or "nothing"
        estimate, low, high = row["ratio"]
        cells = [
            *(model, bits, device, limits + " (bounds)" * bool(variant)),
            str(row["pieces"]) if device == "cpu-litert" else "",
            *(f"{time:.3f}" for time in row["milliseconds"]),
            f"{estimate:.2f} ({low:.2f} to {high:.2f})",
            str(row["unequal"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
