"""A model of more than 2 GiB, constants beside it: the most private memory of each step, against its size.

    python benchmarks/large_model.py [w8] [w8a8]     # writes benchmarks/results/large_model.md

Four dense layers of 12,000 x 12,000 floats (2.3 GB), generated. Memory is what the process alone holds (RssAnon,
sampled every 10 ms): pages of the file that is mapped are the system's to drop. Each format has a process of its own.
"""

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

RESULT = Path(__file__).parent / "results" / "large_model.md"
_WIDTH, _LAYERS, _ROWS = 12_000, 4, 1_000
_HEADER = (
    "| format | load | decide | observe | quantize | export | most, of the model's size | file |\n"
    "|---|---|---|---|---|---|---|---|"
)


def generate(folder: Path) -> Path:
    """The model; its constants are written row by row."""
    rng, tensors, nodes, source = np.random.default_rng(0), [], [], "x"
    each = _WIDTH * _WIDTH * 4
    with (folder / "weights.bin").open("wb") as file:
        for layer in range(_LAYERS):
            for _ in range(0, _WIDTH, _ROWS):
                file.write((rng.standard_normal((_ROWS, _WIDTH), np.float32) * np.float32(0.01)).tobytes())
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[_WIDTH, _WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", str(layer * each)), ("length", str(each))):
                tensor.external_data.add(key=key, value=value)
            tensors.append(tensor)
            target = "y" if layer == _LAYERS - 1 else f"r{layer}"
            nodes.append(helper.make_node("Gemm", [source, f"w{layer}"], [f"g{layer}"], transB=1, name=f"dense{layer}"))
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [target], name=f"relu{layer}"))
            source = target
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", _WIDTH])] for name in "xy"]
    graph = helper.make_graph(nodes, "large", *ends, tensors)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


class Memory:
    """The most private memory since it was last asked."""

    def __init__(self) -> None:
        self.most = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, private())
            time.sleep(0.01)

    def take(self) -> int:
        """The most in bytes; starts anew."""
        most, self.most = max(self.most, private()), 0
        return most


def private() -> int:
    """RssAnon in bytes."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) << 10


def measure(path: Path, bits: str) -> str:
    """One row."""
    import torch

    from edgeq.calibration.nearest import nearest
    from edgeq.calibration.ranges import Ranges, observe
    from edgeq.exporters.onnx import save
    from edgeq.graph.execute import to_torch
    from edgeq.graph.sources import load_model
    from edgeq.plan.bits import Bits
    from edgeq.plan.rules import Request, decide

    size = (path.parent / "weights.bin").stat().st_size
    memory, start, peaks = Memory(), private(), []

    def step(action: Callable[[], Any]) -> Any:
        result = action()
        peaks.append((memory.take() - start) / size)
        return result

    def look() -> Ranges:
        if not skeleton.groups:
            return Ranges({}, {}, 0, "none")
        return observe(to_torch(graph), [(torch.randn(2, _WIDTH),)], skeleton)

    graph = step(lambda: load_model(path))
    skeleton = step(lambda: decide(graph, Request(Bits.parse(bits))))
    ranges = step(look)
    plan = step(lambda: nearest(graph, skeleton, ranges))
    target = path.parent / f"{bits}.onnx"
    step(lambda: save(graph, plan, target))
    shown = " | ".join(f"{peak:.2f}" for peak in peaks)
    return f"| {bits} | {shown} | {max(peaks):.2f} | {target.stat().st_size / 1e6:,.0f} MB |"


def main(wanted: list[str]) -> None:
    """Run each format in a process of its own and write the table."""
    if wanted[:1] == ["--measure"]:
        print(measure(Path(wanted[1]), wanted[2]))
        return
    rows = {}
    if RESULT.is_file():
        rows = {line.split("|")[1].strip(): line for line in RESULT.read_text(encoding="utf-8").splitlines()[2:]}
    with tempfile.TemporaryDirectory() as folder:
        path = generate(Path(folder))
        for bits in wanted or ["w8", "w8a8"]:
            command = [sys.executable, __file__, "--measure", str(path), bits]
            rows[bits] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(rows[bits], flush=True)
            RESULT.write_text("\n".join([_HEADER, *(rows[key] for key in sorted(rows))]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
