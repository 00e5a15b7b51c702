"""The shared models through every device that can be had here: accuracy, agreement, parity and latency in one table.

    python benchmarks/devices.py [MODEL ...]     # writes benchmarks/results/devices-MODEL.md

Devices: ONNX Runtime (with and without its graph optimizations), LiteRT (three kernel families), tflite-runtime 2.14
(two), TFLite Micro, emulated ARM64 (ONNX Runtime, LiteRT), emulated x86-64 without VNNI, and LiteRT over ssh to a
server on loopback. One plan for all; each device is compared with the exact simulation of its own kernel family.
Emulated devices are not timed: qemu's time is nobody's.
"""

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.devices import Device, Profile, load_profile, open_device, parity
from edgeq.errors import EdgeqError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.measurement import LatencyComparison
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import FAMILIES, family

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
from assets import CASES, FOLDER  # noqa: E402

from tests.devices.conftest import SshServer, serving  # noqa: E402

RESULTS = Path(__file__).parent / "results"
Array = np.ndarray[Any, Any]

#: Profile -> at most so many samples: plain kernels and emulation are slow.
DEVICES: dict[str, int] = {
    "cpu-onnxruntime": 500, "cpu-onnxruntime-unoptimized": 500, "arm64-onnxruntime": 100,
    "x86-64-avx2-onnxruntime": 100, "cpu-litert": 500, "ssh": 500, "cpu-litert-builtin": 500,
    "cpu-litert-reference": 100, "arm64-litert": 100, "cpu-tflite-runtime": 500, "cpu-tflite-runtime-reference": 100,
    "tflite-micro": 100,
}  # fmt: skip
_TIMED = ("cpu-onnxruntime", "cpu-litert", "ssh", "cpu-litert-builtin", "cpu-tflite-runtime")
_CALIBRATION = 200


@dataclass(frozen=True, eq=False)
class Quantized:
    """A model, its plan, and the files of both in each format."""

    graph: Graph
    plan: Plan
    layouts: dict[str, tuple[int, ...]]
    files: dict[str, bytes]

    @classmethod
    def of(cls, path: Path, calibration: Array) -> "Quantized":
        graph = load_model(path)
        skeleton = decide(graph, Request())
        size = _batch(graph)
        batches = [(torch.from_numpy(calibration[i : i + size]),) for i in range(0, len(calibration), size)]
        plan = nearest(graph, skeleton, observe(to_torch(graph), batches, skeleton))
        built = tflite_format.build(graph, plan, io="int8")
        files = {
            "onnx": onnx_format.export(graph, None),
            "onnx-uint8": onnx_format.export(graph, plan, activations="uint8"),
            "onnx-int8": onnx_format.export(graph, plan, activations="int8"),
            "tflite": tflite_format.export(graph, None, io="float32"),
            "tflite-int8": built.data,
        }
        return cls(graph, plan, {key: tuple(order) for key, order in built.layouts.items()}, files)

    def simulate(self, kernels: str, x: Array) -> dict[str, Array]:
        """All outputs as real numbers, with a family's exact arithmetic."""
        module = IntegerSimulation(self.graph, self.plan, family(kernels))
        parts = []
        size = _batch(self.graph)
        for start in range(0, len(x), size):
            result = module(torch.from_numpy(x[start : start + size]))
            parts.append(result if isinstance(result, tuple) else (result,))
        names = [name(value) for value in self.graph.outputs]
        return {key: torch.cat(rows).numpy() for key, rows in zip(names, zip(*parts, strict=True), strict=True)}

    def deploy(self, device: Device, x: Array) -> dict[str, Array]:
        """All outputs as real numbers, from the device."""
        onnx = device.profile.artifact == "onnx"
        handle = device.load(self.files[f"onnx-{device.profile.activations}" if onnx else "tflite-int8"])
        key = name(self.graph.inputs[0])
        fed = x if onnx else np.ascontiguousarray(x.transpose(self.layouts[key]))
        found = device.run(handle, {key: fed})
        return found if onnx else {key: y.transpose(np.argsort(self.layouts[key])) for key, y in found.items()}

    def latency(self, device: Device) -> LatencyComparison:
        onnx = device.profile.artifact == "onnx"
        reference = device.load(self.files["onnx" if onnx else "tflite"])
        candidate = device.load(self.files[f"onnx-{device.profile.activations}" if onnx else "tflite-int8"])
        return device.compare_latency(reference, candidate, runs=150, processes=3)


def _batch(graph: Graph) -> int:
    """The model's batch size, fifty where it is free."""
    shape = graph.inputs[0].shape
    return shape[0] if shape is not None and isinstance(shape[0], int) else 50


@contextmanager
def opened(device: str) -> Iterator[Device]:
    """The device of a profile, or LiteRT over ssh to a server on loopback."""
    if device != "ssh":
        with open_device(load_profile(device)) as found:
            yield found
        return
    server: SshServer
    with serving() as server, Device(replace(load_profile("cpu-litert"), name="ssh"), server.transport()) as found:
        yield found


def faces() -> tuple[Array, Array]:
    """Photographs as the face detector takes them (240 x 320, (rgb - 127) / 128)."""
    files = sorted((FOLDER / "imagenet_sample224").glob("*.jpg"))[:400:4]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB").resize((320, 240))) for file in files])
    x = np.ascontiguousarray(((pixels.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2))
    return x[:50], x[50:]


def cases(wanted: list[str]) -> Iterator[tuple[str, Path, Array, Array, Array | None]]:
    """(name, model, calibration samples, evaluation samples, labels)."""
    for case in CASES:
        if not wanted or case.name in wanted:
            given, held_out = case.data()
            calibration, x, y = given["x"], held_out["x"], held_out["y"]
            yield case.name, case.model, calibration[:_CALIBRATION], x, y
    if not wanted or "ultraface" in wanted:
        calibration, x = faces()
        yield "ultraface", FOLDER / "ultraface" / "version-RFB-320_without_postprocessing.onnx", calibration, x, None


def steps(model: Quantized, output: str) -> float:
    """The distance of neighbouring values of an output; 1e-6 where it is float."""
    grid = model.plan.activations.get(output)
    return float(grid.scale) if grid is not None else 1e-6


def row(
    case: str, model: Quantized, device: str, x: Array, y: Array | None, reference: Array
) -> tuple[str, dict[str, Array]]:
    """One line of the table, and what the device computed."""
    x = x[: DEVICES[device] if case != "ultraface" else min(DEVICES[device], 50)]
    with opened(device) as found:
        profile: Profile = found.profile
        deployed = model.deploy(found, x)
        ratio = model.latency(found) if device in _TIMED else None
        version = f"{found.info.runtime} {found.info.version}, {found.info.machine}"
    cells = [case, device, version, str(len(x))]
    first = next(iter(deployed.values()))
    if y is None:
        cells += ["", "", ""]
    else:
        float_top1 = (reference[: len(x)].argmax(1) == y[: len(x)]).mean()
        agreement = (reference[: len(x)].argmax(1) == first.argmax(1)).mean()
        cells += [f"{float_top1:.2%}", f"{(first.argmax(1) == y[: len(x)]).mean():.2%}", f"{agreement:.2%}"]
    if profile.kernels in {each.name for each in FAMILIES}:
        simulated = model.simulate(profile.kernels, x)
        compared = [parity(simulated[key], deployed[key], step=steps(model, key)) for key in deployed]
        largest = max(max(each.histogram) for each in compared)
        cells.append(f"{sum(p.unequal for p in compared):,} of {sum(p.compared for p in compared):,} (max {largest})")
    else:
        cells.append("no integer kernels")
    if ratio is None:
        cells += ["", ""]
    else:
        cells += [f"{ratio.reference.median_ms:.3f} → {ratio.candidate.median_ms:.3f}",
                  f"{ratio.ratio.estimate:.2f} ({ratio.ratio.low:.2f} to {ratio.ratio.high:.2f})"]  # fmt: skip
    return "| " + " | ".join(cells) + " |", deployed


def pairs(case: str, model: Quantized, outputs: dict[str, dict[str, Array]]) -> Iterator[str]:
    """How many outputs differ between each two devices, on the samples that both saw."""
    for first, second in itertools.combinations(outputs, 2):
        count = min(len(next(iter(outputs[key].values()))) for key in (first, second))
        compared = [
            parity(outputs[first][key][:count], outputs[second][key][:count], step=steps(model, key))
            for key in outputs[first]
        ]
        unequal, total = sum(p.unequal for p in compared), sum(p.compared for p in compared)
        yield f"| {case} | {first} | {second} | {unequal:,} | {total:,} |"


_HEADER = (
    "| model | device | runtime | samples | float | deployed | agreement with float | outputs unequal to simulation | "
    "latency ms, float → integer | ratio |\n|---|---|---|---|---|---|---|---|---|---|"
)
_PAIRS = "\n| model | device | device | unequal outputs | compared |\n|---|---|---|---|---|"


def main(wanted: list[str]) -> None:
    """Run everything and write the tables, one file a model."""
    RESULTS.mkdir(exist_ok=True)
    for case, path, calibration, x, y in cases(wanted):
        lines = [_HEADER]
        model = Quantized.of(path, calibration)
        with open_device(load_profile("cpu-onnxruntime")) as host:
            floating = host.run(
                host.load(model.files["onnx"]), {name(model.graph.inputs[0]): x[: max(DEVICES.values())]}
            )
        reference = floating[name(model.graph.outputs[0])]
        outputs: dict[str, dict[str, Array]] = {}
        for device in DEVICES:
            try:
                line, outputs[device] = row(case, model, device, x, y, reference)
            except EdgeqError as error:
                line = f"| {case} | {device} | {error} | | | | | | | |"
            lines.append(line)
            print(line, flush=True)
        lines += [_PAIRS, *pairs(case, model, outputs)]
        (RESULTS / f"devices-{case}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
