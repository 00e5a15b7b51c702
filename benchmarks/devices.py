"""The shared models through every device that can be had here: accuracy, agreement, parity and latency in one table.

    python benchmarks/devices.py [MODEL ...] [DEVICE ...]    # writes benchmarks/results/devices-MODEL.md, and the sums

Rows of devices that were not run stay as they are.

Devices: ONNX Runtime (with and without its graph optimizations), LiteRT (three kernel families), tflite-runtime 2.14
(two), TFLite Micro, emulated ARM64 (ONNX Runtime, LiteRT), emulated x86-64 without VNNI, and LiteRT over ssh to a
server on loopback. One plan for all; each device is compared with the exact simulation of its own kernel family.
Emulated devices are not timed, because qemu's time is nobody's: their instructions are counted.
"""

import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.devices import Device, Profile, load_profile, open_device, parity
from edgeq.devices.instructions import count_instructions
from edgeq.errors import EdgeqError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import FAMILIES, family

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
from assets import CASES, FOLDER, MORE_CASES, Case  # noqa: E402

from tests.devices.conftest import SshServer, serving  # noqa: E402

RESULTS = Path(__file__).parent / "results"
Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]

#: Plain kernels and emulation are slow: they see fewer samples and fewer timed runs.
FAST = (
    "cpu-onnxruntime",
    "cpu-onnxruntime-unoptimized",
    "cpu-litert",
    "ssh",
    "cpu-litert-builtin",
    "cpu-tflite-runtime",
)
SLOW = (
    *("arm64-onnxruntime", "arm64-litert", "x86-64-avx2-onnxruntime"),
    *("cpu-litert-reference", "cpu-tflite-runtime-reference", "tflite-micro"),
)
#: Model -> samples on fast and on slow devices.
SAMPLES = {
    "resnet20": (500, 100),
    "resnet56": (200, 20),
    "efficientnet_lite0": (40, 4),
    "kws_dscnn": (500, 100),
    "ad_autoencoder": (400, 400),
    "silero_vad": (400, 100),
    "ultraface": (50, 50),
}
_CALIBRATION = 200


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs by name, the first dimension counts samples; a whole input a sample, or rows that can be joined."""

    inputs: Inputs
    whole: bool

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def first(self, count: int) -> "Samples":
        return Samples({key: array[:count] for key, array in self.inputs.items()}, self.whole)

    def batches(self, size: int) -> Iterator[Inputs]:
        step = 1 if self.whole else size
        for start in range(0, len(self), step):
            part = {key: array[start : start + step] for key, array in self.inputs.items()}
            yield {key: array[0] for key, array in part.items()} if self.whole else part


@dataclass(frozen=True, eq=False)
class Quantized:
    """A model, its plan, and the files of both in each format."""

    graph: Graph
    plan: Plan
    layouts: dict[str, tuple[int, ...]]
    files: dict[str, bytes]

    @classmethod
    def of(cls, case: Case, calibration: Samples) -> "Quantized":
        graph = load_model(case.model, **_chosen(case))
        skeleton = decide(graph, Request())
        names = [name(value) for value in graph.inputs]
        batches = [
            tuple(torch.from_numpy(np.ascontiguousarray(part[key])) for key in names)
            for part in calibration.batches(_batch(graph))
        ]
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

    @property
    def inputs(self) -> list[str]:
        return [name(value) for value in self.graph.inputs]

    def simulate(self, kernels: str, samples: Samples) -> dict[str, Array]:
        """All outputs as real numbers, with a family's exact arithmetic."""
        module = IntegerSimulation(self.graph, self.plan, family(kernels))
        parts = []
        for part in samples.batches(_batch(self.graph)):
            result = module(*(torch.from_numpy(np.ascontiguousarray(part[key])) for key in self.inputs))
            parts.append(result if isinstance(result, tuple) else (result,))
        names = [name(value) for value in self.graph.outputs]
        return {key: torch.cat(rows).numpy() for key, rows in zip(names, zip(*parts, strict=True), strict=True)}

    def integer_file(self, profile: Profile) -> bytes:
        return self.files[f"onnx-{profile.activations}" if profile.artifact == "onnx" else "tflite-int8"]

    def grids(self, outputs: Mapping[str, Array]) -> list[tuple[str, float]]:
        """The outputs that are codes, and the distance of neighbouring values of each; the others are float."""
        grids = self.plan.activations
        return [(key, float(grids[key].scale)) for key in outputs if key in grids]

    def deploy(self, device: Device, samples: Samples, file: bytes | None = None) -> dict[str, Array]:
        """All outputs as real numbers, from the device."""
        onnx = device.profile.artifact == "onnx"
        handle = device.load(file if file is not None else self.integer_file(device.profile))
        parts = []
        for part in samples.batches(len(samples)):
            fed = {
                key: x if onnx or key not in self.layouts else np.ascontiguousarray(x.transpose(self.layouts[key]))
                for key, x in part.items()
            }
            found = device.run(handle, fed)
            restored = {
                key: y if onnx or key not in self.layouts else y.transpose(np.argsort(self.layouts[key]))
                for key, y in found.items()
            }
            parts.append(restored)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def cost(model: Quantized, device: Device) -> tuple[str, str]:
    """(milliseconds or millions of instructions, float -> integer; their ratio)."""
    profile = device.profile
    pair = model.files[profile.artifact], model.integer_file(profile)
    if profile.transport.kind == "emulated":
        counts = [count_instructions(profile, data, 3).median for data in pair]
        millions = [f"{count / 1e6:,.2f} M" for count in counts]
        return f"{millions[0]} → {millions[1]} instructions", f"{counts[1] / counts[0]:.3f}"
    floating, integer = (device.load(data) for data in pair)
    fast = profile.name in FAST
    found = device.compare_latency(floating, integer, runs=150 if fast else 12, processes=3, warm_up=10 if fast else 1)
    ratio = found.ratio
    times = f"{found.reference.median_ms:.3f} → {found.candidate.median_ms:.3f} ms"
    return times, f"{ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


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


def quality(floating: Array, deployed: Array, labels: Array | None) -> list[str]:
    """Cells: float, deployed, agreement; without labels the error of the outputs in decibels."""
    floating = floating[: len(deployed)]
    if labels is None:
        noise = float(((floating - deployed).astype(np.float64) ** 2).sum())
        decibels = 10 * np.log10(float((floating.astype(np.float64) ** 2).sum()) / noise) if noise else np.inf
        return ["", f"{decibels:.1f} dB to float", ""]
    labels = labels[: len(deployed)]
    tops = [(output.argmax(1) == labels).mean() for output in (floating, deployed)]
    agreement = (floating.argmax(1) == deployed.argmax(1)).mean()
    return [f"{tops[0]:.2%}", f"{tops[1]:.2%}", f"{agreement:.2%}"]


def row(
    case: str, model: Quantized, device: str, samples: Samples, labels: Array | None, floating: Array
) -> tuple[str, dict[str, Array]]:
    """One line of the table, and what the device computed."""
    samples = samples.first(SAMPLES[case][device in SLOW])
    with opened(device) as found:
        profile: Profile = found.profile
        deployed = model.deploy(found, samples)
        version = f"{found.info.runtime} {found.info.version}, {found.info.machine}"
        try:
            costs = cost(model, found)
        except EdgeqError as error:
            costs = (f"none: {str(error)[:80]}", "")
    cells = [case, device, version, str(len(samples))]
    cells += quality(floating, deployed[name(model.graph.outputs[0])], labels)
    if profile.kernels in {each.name for each in FAMILIES}:
        simulated = model.simulate(profile.kernels, samples)
        compared = [parity(simulated[key], deployed[key], step=step) for key, step in model.grids(deployed)]
        largest = max(max(each.histogram) for each in compared)
        counted = f"{sum(p.unequal for p in compared):,} of {sum(p.compared for p in compared):,} (max {largest})"
        real = [np.abs(simulated[key] - deployed[key]).max() for key in deployed if key not in model.plan.activations]
        cells.append(counted + (f"; float outputs within {max(real):.1e}" if real else ""))
    else:
        cells.append("no integer kernels")
    return "| " + " | ".join([*cells, *costs]) + " |", deployed


def pairs(case: str, model: Quantized, outputs: dict[str, dict[str, Array]]) -> Iterator[str]:
    """How many outputs differ between each two devices, on the samples that both saw."""
    for first, second in itertools.combinations(outputs, 2):
        count = min(len(next(iter(outputs[key].values()))) for key in (first, second))
        compared = [
            parity(outputs[first][key][:count], outputs[second][key][:count], step=step)
            for key, step in model.grids(outputs[first])
        ]
        unequal, total = sum(p.unequal for p in compared), sum(p.compared for p in compared)
        yield f"| {case} | {first} | {second} | {unequal:,} | {total:,} |"


_HEADER = (
    "| model | device | runtime | samples | float | deployed | agreement with float "
    "| outputs unequal to the simulation | cost, float → integer | ratio |\n|---|---|---|---|---|---|---|---|---|---|"
)
_PAIRS = "\n| model | device | device | unequal outputs | compared |\n|---|---|---|---|---|"
_COUNT = re.compile(r"([\d,]+) of ([\d,]+) \(max (\d+)\)")


def summarize() -> None:
    """The sums over all models, from the tables of the models."""
    compared: dict[str, list[tuple[int, int, int]]] = {}
    between: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for path in sorted(RESULTS.glob("devices-*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if len(cells) == 10 and (found := _COUNT.match(cells[7])):
                numbers = [int(part.replace(",", "")) for part in found.groups()]
                compared.setdefault(cells[1], []).append((numbers[0], numbers[1], numbers[2]))
            elif len(cells) == 5 and cells[4].replace(",", "").isdigit():
                count = tuple(int(cell.replace(",", "")) for cell in cells[3:])
                between.setdefault((cells[1], cells[2]), []).append((count[0], count[1]))
    lines = [
        "| device | models | outputs compared with the simulation | unequal | largest step |",
        "|---|---|---|---|---|",
    ]
    for device, found_rows in compared.items():
        unequal, total = (sum(row[i] for row in found_rows) for i in (0, 1))
        largest = max(row[2] for row in found_rows)
        lines.append(f"| {device} | {len(found_rows)} | {total:,} | {unequal:,} | {largest} |")
    lines += ["", "| device | device | models | outputs compared | unequal |", "|---|---|---|---|---|"]
    for (first, second), counts in between.items():
        unequal, total = (sum(row[i] for row in counts) for i in (0, 1))
        lines.append(f"| {first} | {second} | {len(counts)} | {total:,} | {unequal:,} |")
    (RESULTS / "devices.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(wanted: list[str]) -> None:
    """Run everything and write the tables, one file a model."""
    RESULTS.mkdir(exist_ok=True)
    devices = [device for device in (*FAST, *SLOW) if device in wanted]
    wanted = [name for name in wanted if name not in devices]
    for case in (*CASES, *MORE_CASES):
        if case.name == "ultraface":
            # What comes after its convolutions stays in float; here the codes are compared.
            case = replace(case, model=FOLDER / "ultraface" / "version-RFB-320_without_postprocessing.onnx")
        if case.name not in SAMPLES or (wanted and case.name not in wanted):
            continue
        given, held_out = case.data()
        labels = held_out.pop("y", None)
        given.pop("y", None)
        whole = case.name in ("silero_vad", "ultraface")
        graph_inputs = [name(v) for v in load_model(case.model, **_chosen(case)).inputs]
        rename = {"x": graph_inputs[0]} if list(given) == ["x"] else {}
        calibration, samples = (
            Samples({rename.get(key, key): array for key, array in arrays.items()}, whole)
            for arrays in (given, held_out)
        )
        samples = samples.first(SAMPLES[case.name][0])
        measure(case, calibration.first(_CALIBRATION), samples, labels, devices or [*FAST, *SLOW])
        summarize()


def _chosen(case: Case) -> dict[str, Any]:
    return {key: case.options[key] for key in ("shapes", "constants") if key in case.options}


def measure(case: Case, calibration: Samples, samples: Samples, labels: Array | None, devices: list[str]) -> None:
    """Devices on one model; writes its tables."""
    model = Quantized.of(case, calibration)
    with open_device(load_profile("cpu-onnxruntime")) as host:
        floating = model.deploy(host, samples, model.files["onnx"])[name(model.graph.outputs[0])]
    lines: list[str] = []
    outputs: dict[str, dict[str, Array]] = {}
    for device in devices:
        try:
            line, outputs[device] = row(case.name, model, device, samples, labels, floating)
        except EdgeqError as error:
            line = f"| {case.name} | {device} | {error} | | | | | | | |"
        lines.append(line)
        print(line, flush=True)
    path = RESULTS / f"devices-{case.name}.md"
    before = path.read_text(encoding="utf-8").split(_PAIRS) if path.is_file() else ["", ""]
    rows = _merged(before[0], lines, 2)
    path.write_text(
        "\n".join([_HEADER, *rows, _PAIRS, *_merged(before[-1], pairs(case.name, model, outputs), 3)]) + "\n"
    )


def _merged(before: str, lines: Iterable[str], key: int) -> list[str]:
    """The lines of a table with the new ones in place of those with the same first cells."""

    def keyed(given: Iterable[str]) -> dict[tuple[str, ...], str]:
        return {tuple(line.split("|")[1 : 1 + key]): line for line in given}

    rows = [line for line in before.splitlines() if line.startswith("| ") and not line.startswith("| model ")]
    return list((keyed(rows) | keyed(lines)).values())


if __name__ == "__main__":
    main(sys.argv[1:])
