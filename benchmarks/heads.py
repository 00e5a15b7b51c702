"""Detection heads: what a shared grid costs the smaller branch of a Concat, and what 8 bits cost decoded boxes.

    python benchmarks/heads.py     # writes benchmarks/results/heads.md

First table: a small detector (``tests/detectors.py``) whose box branch reaches F times as far as its score branch; root
mean square error of the scores in both runtimes, as a share of their standard deviation. Second table, with the assets:
UltraFace on images, its boxes decoded on codes as far as there are kernels, and in float as the plan has it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import named_outputs, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.heads import post_processing
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.plan.units import group

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
from assets import FOLDER, MORE_CASES  # noqa: E402

from tests.detectors import detector, images  # noqa: E402

Array = npt.NDArray[Any]
RESULT = Path(__file__).parent / "results" / "heads.md"


def plan_of(graph: Graph, x: Array, request: Request, apart: Mapping[str, str]) -> Plan:
    """Quantized by the extremes of samples, which are run one after the other where the batch is fixed."""
    skeleton = decide(graph, request, apart)
    batches = [(torch.from_numpy(x),)] if x.ndim == 4 else [(torch.from_numpy(each),) for each in x]
    return nearest(graph, skeleton, observe(to_torch(graph), batches, skeleton))


def deployed(graph: Graph, plan: Plan, x: Array) -> dict[str, dict[str, Array]]:
    """Runtime -> output -> what it gives, sample by sample."""
    input_name, samples = name(graph.inputs[0]), x[:, None] if x.ndim == 4 else x
    names = [name(value) for value in graph.outputs]
    session = onnxruntime.InferenceSession(onnx_format.export(graph, plan), providers=["CPUExecutionProvider"])
    ort = [session.run(names, {input_name: each}) for each in samples]
    built = tflite_format.build(graph, plan, io="float32")
    runner = Interpreter(model_content=built.data, num_threads=1).get_signature_runner("serving_default")
    order = built.layouts[input_name]
    lite = [runner(**{input_name: np.ascontiguousarray(each.transpose(order))}) for each in samples]
    return {
        "ONNX Runtime": {key: np.concatenate([r[i] for r in ort]) for i, key in enumerate(names)},
        "LiteRT": {
            key: np.concatenate([r[key].transpose(np.argsort(built.layouts[key])) for r in lite]) for key in names
        },
    }


def real(graph: Graph, x: Array) -> dict[str, Array]:
    """Of the float model."""
    module, samples = to_torch(graph), x[:, None] if x.ndim == 4 else x
    with torch.no_grad():
        found = [named_outputs(graph, module(torch.from_numpy(each))) for each in samples]
    return {key: np.concatenate([each[key].numpy() for each in found]) for key in found[0]}


def branch_errors(factor: float) -> str:
    """One line of the first table."""
    graph, x = detector("logits"), images(64)
    weight = next(v for v in graph.model.graph.initializers.values() if v.name == "wb")
    reach = real(graph, x)["y"]
    boxes, scores = np.ptp(reach[:, :4]), np.ptp(reach[:, 4:])

    weight.const_value = ir.tensor(graph.constant("wb") * np.float32(factor * scores / boxes), name="wb")  # type: ignore[operator]
    exact = real(graph, x)["y"][:, 4:]
    concat = next(unit.name for unit in group(graph) if unit.op == "Concat")
    cells = []
    for apart in ({}, {concat: "kept apart"}):
        for outputs in deployed(graph, plan_of(graph, x, Request(), apart), x).values():
            error = np.sqrt(np.mean((outputs["y"][:, 4:] - exact) ** 2)) / exact.std()
            cells.append(f"{error:.2%}")
    return f"| {factor:g} | {' | '.join(cells)} |"


def ultraface() -> list[str]:
    """The lines of the second table."""
    case = next(case for case in MORE_CASES if case.name == "ultraface")
    calibration, evaluation = (part["x"] for part in case.data())
    graph = load_model(case.model)
    behind = post_processing(graph, group(graph))
    exact = real(graph, evaluation[:32])
    lines = []
    for label, overrides in (("on codes", [(unit, Bits(8, 8)) for unit in behind]), ("in float", [])):
        plan = plan_of(graph, calibration[:32], Request(overrides=overrides), {})
        for runtime, outputs in deployed(graph, plan, evaluation[:32]).items():
            boxes, scores = (float(np.abs(outputs[key] - exact[key]).mean()) for key in ("boxes", "scores"))
            lines.append(f"| {label} | {runtime} | {320 * boxes:.3f} | {scores:.5f} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Write both tables."""
    lines = [
        "Error of the smaller branch of a Concat, as a share of its standard deviation:",
        "",
        "| ranges differ by | one grid, ONNX Runtime | one grid, LiteRT | apart, ONNX Runtime | apart, LiteRT |",
        "|---|---|---|---|---|",
    ]
    for factor in (1, 2, 4, 8, 16, 64, 256):
        lines.append(branch_errors(factor))
        print(lines[-1], flush=True)
    if FOLDER.is_dir():
        lines += ["", "UltraFace, decoding of boxes (mean absolute errors over 32 images):", ""]
        lines += ["| decoded | runtime | boxes, pixels of 320 | scores |", "|---|---|---|---|", *ultraface()]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
