"""Post-training quantization, ours and the peer that installs everywhere, on the same model, samples and test set.

    python benchmarks/ptq.py [MODEL ...] [--bits w8a8,w4a8,...] [--methods nearest,...]     # writes results/ptq.md

Every row is a fresh process: it calibrates on 512 unlabelled samples (fewer where the set is smaller), writes an
integer ONNX file, and judges that file by onnxruntime on the whole test set. "fl8": first and last layer at 8 bits. CPU
seconds are of the quantization alone, from the read model and samples to the plan (peer: to its file); peak memory is
that of the process, the samples read for the row included.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, Case, write_samples

BITS = ("w8a8", "w4a8", "w4a8 fl8", "w4a4 fl8", "w3a8 fl8", "w2a8 fl8")
OURS = ("nearest", "statistics", "gptq", "gptq+variance", "adaround")
PEER = "onnxruntime quantize_static"
_PEER_BITS = ("w8a8", "w4a8")
SAMPLES = 512


def accuracy(model: bytes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Top-1 of an ONNX file in onnxruntime, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    shape, name = session.get_inputs()[0].shape, session.get_inputs()[0].name
    size = shape[0] if isinstance(shape[0], int) else 100
    found = [session.run(None, {name: x[i : i + size]})[0].argmax(1) for i in range(0, len(x), size)]
    return float((np.concatenate(found) == y[: sum(map(len, found))]).mean())


def ours(case: Case, x: np.ndarray[Any, Any], bits: str, method_name: str) -> tuple[bytes, float]:
    """(integer ONNX file, CPU seconds) of one of our methods."""
    from edgeq.calibration.methods import method
    from edgeq.calibration.observers import MinMax, Mse
    from edgeq.calibration.ranges import observe
    from edgeq.exporters.onnx.export import export
    from edgeq.graph.execute import to_torch
    from edgeq.graph.sources.load import load_model
    from edgeq.plan.bits import Bits
    from edgeq.plan.ops import WEIGHTED
    from edgeq.plan.rules import Request, decide
    from edgeq.plan.validate import validate

    torch.set_num_threads(1)
    graph = load_model(case.model)
    width, _, ends = bits.partition(" ")
    layers = [node.name for node in graph.nodes if node.op_type in WEIGHTED]
    overrides = tuple((str(layer), Bits(8, 8)) for layer in (layers[0], layers[-1])) if ends else ()
    skeleton = decide(graph, Request(Bits.parse(width), overrides))
    samples = [(part,) for part in torch.from_numpy(x).split(32)]
    began = time.process_time()
    ranges = observe(to_torch(graph), samples, skeleton, Mse if "a4" in width else MinMax)
    plan = method(method_name)(graph, skeleton, ranges, samples)
    seconds = time.process_time() - began
    validate(graph, plan)
    return export(graph, plan), seconds


def peer(case: Case, x: np.ndarray[Any, Any], bits: str) -> tuple[bytes, float]:
    """(file, CPU seconds) of onnxruntime's quantize_static: min-max, uint8 activations, weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{name: x[i : i + 1]} for i in range(len(x))])

        def get_next(self) -> Any:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "written.onnx"
        began = time.process_time()
        quant_pre_process(str(case.model), str(prepared))
        quantize_static(
            str(prepared), str(written), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8 if bits == "w8a8" else QuantType.QInt4,
        )  # fmt: skip
        return written.read_bytes(), time.process_time() - began


def one(case: Case, folder: Path, bits: str, method_name: str) -> dict[str, float]:
    """Measure one row, in this process."""
    x = np.load(folder / f"{case.name}-calibration.npz")["x"]
    x = x[np.random.default_rng(0).permutation(len(x))[:SAMPLES]]
    file, seconds = peer(case, x, bits) if method_name == PEER else ours(case, x, bits, method_name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    test = np.load(folder / f"{case.name}-evaluation.npz")
    return {"top1": accuracy(file, test["x"], test["y"]), "seconds": seconds, "peak": peak, "size": len(file) / 1e3}


def main() -> None:
    """Fill the table, row by row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=[])
    parser.add_argument("--bits", default=",".join(BITS))
    parser.add_argument("--methods", default=",".join((*OURS, PEER)))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    if arguments.one:
        folder, bits, method_name = arguments.one
        print(json.dumps(one(by_name[arguments.models[0]], Path(folder), bits, method_name)))
        return
    results = Path(__file__).parent / "results" / "ptq.md"
    lines = [
        "| model | bits | method | deployed top-1 % (95 % interval) | CPU s | peak MB | file kB |",
        "|" + "---|" * 7,
    ]
    for name in arguments.models or ["resnet20", "kws_dscnn"]:
        with tempfile.TemporaryDirectory() as folder:
            write_samples(by_name[name], Path(folder))
            test = np.load(Path(folder) / f"{name}-evaluation.npz")
            count = len(test["y"])
            real = accuracy(by_name[name].model.read_bytes(), test["x"], test["y"])
            lines.append(f"| {name} | float | | {interval(real, count)} | | | |")
            for bits in arguments.bits.split(","):
                for method_name in arguments.methods.split(","):
                    if method_name == PEER and bits not in _PEER_BITS:
                        continue
                    lines.append(row(name, folder, bits, method_name, count))
                    print(lines[-1], flush=True)
                    results.write_text("\n".join(lines) + "\n", encoding="utf-8")


def interval(share: float, count: int) -> str:
    """A percentage with its 95 % interval (normal approximation; counts are in the hundreds and more)."""
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    return f"{share * 100:.2f} ({(share - half) * 100:.2f}-{(share + half) * 100:.2f})"


def row(name: str, folder: str, bits: str, method_name: str, count: int) -> str:
    """One line of the table, measured in a fresh process."""
    command = [sys.executable, __file__, name, "--one", folder, bits, method_name]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        told = (run.stderr.strip().splitlines() or ["nothing said"])[-1]
        return f"| {name} | {bits} | {method_name} | failed: {told[:120]} | | | |"
    found = json.loads(run.stdout.splitlines()[-1])
    figures = f"{found['seconds']:.1f} | {found['peak']:.0f} | {found['size']:.0f}"
    return f"| {name} | {bits} | {method_name} | {interval(found['top1'], count)} | {figures} |"


if __name__ == "__main__":
    main()
