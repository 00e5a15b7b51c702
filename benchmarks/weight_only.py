"""Weight-only formats of two transformers: what each costs, how large its files are, and how fast both runtimes run it.

    python benchmarks/weight_only.py                                        # all; results/weight_only.md and .json
    python benchmarks/weight_only.py --model minilm_l6 --bits w4 w4b32      # a part; merged into both

The ONNX file is judged as ONNX Runtime runs it by default (activations quantized on the way), on the first 256 of
the samples that ``benchmarks/peers.py`` judges; the TFLite file on the first 64. Latency: the median of runs of one
sample in turn with the float file, one thread.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from ai_edge_litert import interpreter as litert
from peers.subjects import Subject, prepared, subject

from edgeq.calibration.methods import method
from edgeq.calibration.ranges import Ranges
from edgeq.devices import load_profile
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.graph import name
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide

RESULTS = Path(__file__).parent / "results"
MODELS = ("stories260k", "minilm_l6")
BITS = ("w8", "w4", "w4b128", "w4b64", "w4b32", "w3", "w3b32", "w2", "w2b32")
ROUNDING = ("nearest", "gptq", "descent")
_CALIBRATION, _JUDGED, _LITERT, _TIMED = 64, 256, 64, 60
_NOTHING = Ranges({}, {}, 0, "")

Arrays = Mapping[str, np.ndarray[Any, Any]]
Runner = Callable[[Arrays], np.ndarray[Any, Any]]


def main() -> None:
    """Measure what was asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--bits", nargs="+", default=BITS, choices=BITS)
    parser.add_argument("--method", nargs="+", default=ROUNDING, choices=ROUNDING)
    given = parser.parse_args()
    torch.set_num_threads(1)
    stored = RESULTS / "weight_only.json"
    rows: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    for model in given.model:
        with tempfile.TemporaryDirectory() as folder:
            for key, row in measured(prepared(subject(model), Path(folder)), given.bits, given.method):
                rows[key] = row
                stored.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                (RESULTS / "weight_only.md").write_text(table(rows), encoding="utf-8")
                print(key, row, file=sys.stderr, flush=True)


def measured(found: Subject, formats: list[str], methods: list[str]) -> Any:
    """(key, row) of the float model and of each format and method."""
    assert found.model is not None
    graph = load_model(found.model)
    calibration, evaluation = found.data()
    inputs = [name(value) for value in graph.inputs]
    given = [key for key in calibration if key != "y"]
    x = {new: evaluation[old][:_JUDGED] for new, old in zip(inputs, given, strict=True)}
    samples = [
        tuple(torch.from_numpy(calibration[key][start : start + 16]) for key in given)
        for start in range(0, min(_CALIBRATION, len(calibration[given[0]])), 16)
    ]
    labels = evaluation.get("y")
    floats = onnx_format.export(graph, None), tflite_format.export(graph, None, io="float32")
    real = on_onnxruntime(floats[0])
    reference = real(x)

    def score(outputs: np.ndarray[Any, Any]) -> float:
        some = None if labels is None else labels[: len(outputs)]
        return float(found.metric.each(outputs, some, reference[: len(outputs)]).mean())

    some = {key: array[:_LITERT] for key, array in x.items()}
    kernels = frozenset(Bits.parse(text) for text in load_profile("cpu-litert").hybrid)
    yield f"{found.name} float", {"metric": found.metric.name, "onnx": score(reference), "bytes": len(floats[0])}
    for bits in formats:
        for rounding in methods:
            began = time.process_time()
            plan: Plan = method(rounding)(graph, decide(graph, Request(Bits.parse(bits))), _NOTHING, samples)
            seconds = time.process_time() - began
            files = onnx_format.export(graph, plan), tflite_format.build(graph, plan, hybrid=kernels).data
            row = {"onnx": score(on_onnxruntime(files[0])(x)), "seconds": round(seconds, 1), "bytes": len(files[0])}
            row |= {"tflite": score(on_litert(files[1])(some)), "tflite bytes": len(files[1])}
            row |= {"float tflite": score(on_litert(floats[1])(some))}
            if rounding == methods[-1] or len(methods) == 1:
                one = {key: array[:1] for key, array in x.items()}
                row["onnx ratio"] = ratio(on_onnxruntime(files[0]), real, one)
                row["tflite ratio"] = ratio(on_litert(files[1]), on_litert(floats[1]), one)
            yield f"{found.name} {bits} {rounding}", row


def on_onnxruntime(data: bytes) -> Runner:
    """Runs a file as ONNX Runtime does by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(x: Arrays) -> np.ndarray[Any, Any]:
        count = len(next(iter(x.values())))
        parts = [{k: a[start : start + 32] for k, a in x.items()} for start in range(0, count, 32)]
        return np.concatenate([session.run(None, part)[0] for part in parts])

    return run


def on_litert(data: bytes) -> Runner:
    """Runs a file in LiteRT with its delegate, sample by sample."""
    interpreter = litert.Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")

    def run(x: Arrays) -> np.ndarray[Any, Any]:
        kinds = {key: detail["dtype"] for key, detail in runner.get_input_details().items()}
        count = len(next(iter(x.values())))
        rows = [runner(**{k: a[i : i + 1].astype(kinds[k]) for k, a in x.items()}) for i in range(count)]
        return np.concatenate([next(iter(row.values())) for row in rows])

    return run


def ratio(first: Runner, second: Runner, x: Arrays) -> float:
    """Median time of the first relative to the second's, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED):
        for run, kept in zip((first, second), times, strict=True):
            began = time.perf_counter()
            run(x)
            kept.append(time.perf_counter() - began)
    return round(statistics.median(times[0]) / statistics.median(times[1]), 3)


def table(rows: Mapping[str, Any]) -> str:
    """The table in Markdown."""
    lines = ["# Weight-only formats", "", "Written by `python benchmarks/weight_only.py`.", ""]
    for model in MODELS:
        real = rows.get(f"{model} float")
        if real is None:
            continue
        lines += [f"## {model}", "", f"{real['metric']}: float {real['onnx']:.4f}, {real['bytes'] / 1e6:.2f} MB", ""]
        lines += [
            "| format | rounding | ONNX Runtime | LiteRT (64 samples) | of float there | ONNX MB | TFLite MB "
            "| ONNX time / float | LiteRT time / float | CPU s |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for bits in BITS:
            for rounding in ROUNDING:
                row = rows.get(f"{model} {bits} {rounding}")
                if row is not None:
                    lines.append(_line(bits, rounding, row))
        lines.append("")
    return "\n".join(lines)


def _line(bits: str, rounding: str, row: Mapping[str, Any]) -> str:
    sizes = " | ".join(f"{row[key] / 1e6:.2f}" for key in ("bytes", "tflite bytes"))
    times = " | ".join(str(row.get(key, "")) for key in ("onnx ratio", "tflite ratio"))
    scores = " | ".join(f"{row[key]:.4f}" for key in ("onnx", "tflite", "float tflite"))
    return f"| {bits} | {rounding} | {scores} | {sizes} | {times} | {row['seconds']} |"


if __name__ == "__main__":
    main()
