"""ResNet-20 against onnxruntime's own quantize_static, in one run: latency of the files, interleaved, and wall time.

    python benchmarks/against_quantize_static.py     # writes benchmarks/results/against_quantize_static.md

Latency: edgeq's integer ONNX against theirs (uint8 activations, int8 weights per channel, min-max, preprocessed as
they ask), pairs in turn in fresh processes, one thread. Wall time: each in a fresh process with 512 calibration
images, three times in turn; edgeq's includes evaluation on both runtimes and everything it writes. A second row leaves
the latency out and evaluates on 64 samples: what is left is what quantize_static does, and a second format.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgeq.devices import load_profile, open_device

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, Case, write_samples

_PEER = """
import sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
class Reader(CalibrationDataReader):
    def __init__(self, x, name): self.batches = iter([{name: x[i:i+32]} for i in range(0, len(x), 32)])
    def get_next(self): return next(self.batches, None)
model, data, prepared, output = sys.argv[1:]
quant_pre_process(model, prepared)
x = np.load(data)["x"][:512]
import onnxruntime
name = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
quantize_static(prepared, output, Reader(x, name), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""


def timed(command: list[str]) -> float:
    """Wall seconds of a process."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):  # too few samples to judge is no failure of the conversion
        sys.exit(done.stderr)
    return time.perf_counter() - began


def main() -> None:
    """Measure and write the table."""
    lines = [
        "| model | figure | edgeq | onnxruntime quantize_static | ratio (95 % interval) |",
        "|---|---|---|---|---|",
    ]
    for case in CASES[:1] if "--all" not in sys.argv else CASES:
        with tempfile.TemporaryDirectory() as name:
            lines += compare(case, Path(name))
        print("\n".join(lines[2:]), flush=True)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "against_quantize_static.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(case: Case, folder: Path) -> list[str]:
    """The rows of one model."""
    data, evaluation = write_samples(case, folder)
    peer = [sys.executable, "-c", _PEER, str(case.model), str(data), str(folder / "p.onnx"), str(folder / "peer.onnx")]
    ours = [sys.executable, "-m", "edgeq", "convert", str(case.model), "--data", str(data), "--eval", str(evaluation)]
    small = [*ours, "--eval-samples", "64", "--latency-runs", "0", "--no-diagnose", "--json"]
    ours += ["--eval-samples", "1000", "--json"]
    walls: dict[str, list[float]] = {"peer": [], "whole": [], "small": []}
    for attempt in range(3):
        walls["peer"].append(timed(peer))
        walls["whole"].append(timed([*ours, "-o", str(folder / f"release{attempt}")]))
        walls["small"].append(timed([*small, "-o", str(folder / f"small{attempt}")]))
    middle = {key: statistics.median(values) for key, values in walls.items()}
    rows = [
        f"| {case.name} | wall s, {what} | {middle[key]:.1f} | {middle['peer']:.1f} "
        f"| {middle[key] / middle['peer']:.2f} |"
        for key, what in (
            ("whole", "the whole convert with 1,000 evaluation samples and latency"),
            ("small", "convert with 64 evaluation samples and no latency"),
        )
    ]
    with open_device(load_profile("cpu-onnxruntime")) as device:
        handles = [device.load(path) for path in (folder / "peer.onnx", folder / "release0" / "model.onnx")]
        found = device.compare_latency(*handles, runs=1000)
    ratio = found.ratio
    rows.append(
        f"| {case.name} | latency ms, one thread | {found.candidate.median_ms:.3f} | {found.reference.median_ms:.3f} "
        f"| {ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f}) |"
    )
    return rows


if __name__ == "__main__":
    main()
