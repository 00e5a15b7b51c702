"""Files of other tools, diagnosed: what was read from them, the verdict, and what they really lose.

    python benchmarks/diagnostic/files.py [brevitas/w3a8/nearest ...] [--folder build/files]   # results/files.md

ResNet-20 on CIFAR-10, quantized by each tool in an environment of its own (``benchmarks/peers``) and exported to ONNX
as the tool does it. Files that are in the folder already are not made again. The truth is onnxruntime's, on 1,000
labelled images.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from candidates import batches
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from subjects import Subject, subject

sys.path.insert(0, str(Path(__file__).parents[1]))
import assets
from peers.contract import Job
from peers.environments import python

from edgeq.basin.cost import Options
from edgeq.basin.report import to_json
from edgeq.graph.sources.load import load_model
from edgeq.pipeline.diagnosis import candidate_of_file, examine
from edgeq.plan.bits import Bits

RESULTS = Path(__file__).parent / "results"
SCRIPTS = {"nncf": "nncf_onnx", "torchao": "torchao_pt2e", "brevitas": "brevitas_ptq", "aimet": "aimet_sim"}
DEFAULT = (
    "nncf/w8a8/mixed", "torchao/w8a8/nearest", "torchao/w4a8/nearest", "brevitas/w8a8/nearest",
    "brevitas/w4a8/gptq+mse+bias", "brevitas/w3a8/nearest", "brevitas/w4a4/nearest", "aimet/w8a8/cle",
    "aimet/w4a8/nearest", "onnxruntime/w8a8/qdq", "onnxruntime/w8a8/qoperator",
)  # fmt: skip
_FLOAT = assets.FOLDER / "cifar_resnet_weights" / "resnet20.onnx"
_PROBE, _CALIBRATION = 96, 256


def make(case: str, found: Subject, folder: Path) -> Path:
    """The file of a case, made if it is not there."""
    tool, bits, method = case.split("/")
    own = folder / f"{tool}_{bits}_{method.replace('+', '-')}"
    path = own / "model.onnx"
    if path.exists():
        return path
    own.mkdir(parents=True, exist_ok=True)
    x = found.training[:_CALIBRATION].numpy()
    if tool == "onnxruntime":
        _onnxruntime(method, x, path)
        return path
    np.savez(own / "samples.npz", x=x)
    width = Bits.parse(bits)
    weights = assets.FOLDER / "cifar_resnet_weights" / "resnet20.pt"
    assert width.weights is not None
    job = Job(
        str(_FLOAT), (str(assets.FOLDER / "cifar_resnet.py"), "resnet20", str(weights)), str(own / "samples.npz"),
        str(own / "samples.npz"), False, width.weights, width.activations, None, False, method, str(own),
    )  # fmt: skip
    (own / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    command = [python(tool), "-m", f"peers.{SCRIPTS[tool]}", own / "job.json"]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    return path


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: np.ndarray[Any, Any]) -> None:
        name = onnx.load(_FLOAT).graph.input[0].name
        self.left = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self.left, None)


def _onnxruntime(method: str, x: np.ndarray[Any, Any], path: Path) -> None:
    layout = QuantFormat.QDQ if method == "qdq" else QuantFormat.QOperator
    quantize_static(_FLOAT, path, _Reader(x), quant_format=layout, per_channel=True, weight_type=QuantType.QInt8)


def accuracy(path: Path, found: Subject) -> float:
    """Top-1 in onnxruntime; files for a fixed number of samples get their last batch filled."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    size = value.shape[0] if isinstance(value.shape[0], int) else 100
    x, y = found.test
    right = 0
    for start in range(0, len(x), size):
        part = x[start : start + size].numpy()
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
        right += int(
            (session.run(None, {value.name: filled})[0][: len(part)].argmax(1) == y.numpy()[start : start + size]).sum()
        )
    return right / len(x)


def measure(case: str, folder: Path) -> dict[str, Any]:
    """One file."""
    found = subject("resnet20", folder)
    path = make(case, found, folder)
    training = batches(found.training[:256], 32)
    candidate = candidate_of_file(found.graph, load_model(path), training)
    diagnosis, remedies = examine(
        candidate, batches(found.probe[:_PROBE], 32), training, "edgeq convert m.onnx --data d.npz", Bits(8, 8),
        Options(layers=False),
    )  # fmt: skip
    told = to_json(diagnosis, remedies)
    return {
        "case": case, "bits": str(candidate.bits), "layers": len(candidate.landscape.layers),
        "unmatched": len(candidate.unmatched), "rescaled": len(candidate.rescaled), "verdict": told["verdict"],
        "D": told["D"], "A": told["A"], "repaired": (told["repaired"] or {}).get("D"), "rounded": told["rounded"],
        "activations": told["activations_share"], "remedy": told["remedy"][0],
        "float": accuracy(_FLOAT, found), "top1": accuracy(path, found),
    }  # fmt: skip


def main() -> None:
    """Diagnose and write; results of other cases are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=DEFAULT)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[2] / "build" / "files")
    given = parser.parse_args()
    torch.set_num_threads(1)
    store = RESULTS / "files.json"
    rows = {row["case"]: row for row in json.loads(store.read_text(encoding="utf-8"))} if store.exists() else {}
    for case in given.cases:
        rows[case] = row = measure(case, given.folder)
        store.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
        print(row, flush=True)
    text = [
        "# Files of other tools, diagnosed\n",
        "ResNet-20; D on unlabelled images, points of 1,000 labelled ones.\n",
    ]
    text += ["| file | read as | layers | rescaled | verdict | D | repaired | better rounding | changed decisions "
             "| top-1 | loses, points |", "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows.values():
        heights = " | ".join("" if r[key] is None else f"{r[key]:.3g}" for key in ("D", "repaired", "rounded"))
        text.append(
            f"| {r['case']} | {r['bits']} | {r['layers']} of {r['layers'] + r['unmatched']} | {r['rescaled']} "
            f"| {r['verdict']} | {heights} | {100 * r['A']:.1f} % | {100 * r['top1']:.1f} % "
            f"| {100 * (r['float'] - r['top1']):+.1f} |"
        )
    (RESULTS / "files.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
