"""A model of more than 2 GiB, constants beside it: the most memory of `edgeq convert` and its steps, against its size.

    python benchmarks/large_model.py                 # writes benchmarks/results/large_model.md
    python benchmarks/large_model.py convert:w8a8    # a part of it; merged into the table
    python benchmarks/large_model.py --in DIR w8     # keeps the model (and what was made) in a folder

Four dense layers of 12,000 x 12,000 floats (2.3 GB), generated. Memory is what a process alone holds (RssAnon, sampled
every 10 ms): pages of a file that is mapped are the system's to drop. ``w8`` and ``w8a8`` go step by step through the
functions; ``convert:`` is the command with ONNX Runtime as its device and ``--method nearest``, and "with the
runtime" adds the process that runs the files, whose kernels pack weights anew. Each row has a process of its own.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

RESULT = Path(__file__).parent / "results" / "large_model.md"
_WIDTH, _LAYERS, _ROWS = 12_000, 4, 1_000
_SAMPLES = 24
_ALL = ("w8", "w8a8", "convert:w8", "convert:w8a8")
_HEADER = (
    "| run | load | decide | observe | quantize | export | validate | most, of the model's size | with the runtime "
    "| files | seconds | result |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def generate(folder: Path) -> Path:
    """The model; its constants are written row by row."""
    rng, tensors, nodes, source = np.random.default_rng(0), [], [], "x"
    each = _WIDTH * _WIDTH * 4
    with (folder / "weights.bin").open("wb") as file:
        for layer in range(_LAYERS):
            # One block of random rows, turned from block to block: so many random numbers take longer than the rest.
            block = rng.standard_normal((_ROWS, _WIDTH), np.float32) * np.float32(0.01)
            for turn in range(_WIDTH // _ROWS):
                file.write(np.roll(block, turn * 977, axis=1).tobytes())
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
    np.savez(folder / "samples.npz", x=rng.standard_normal((_SAMPLES, _WIDTH), np.float32))
    return path


class Memory:
    """The most private memory since it was last asked: of this process, and of it with those that it started."""

    def __init__(self) -> None:
        self.most = self.most_of_all = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            own = private("self")
            self.most = max(self.most, own)
            self.most_of_all = max(self.most_of_all, own + sum(map(private, children())))
            time.sleep(0.01)

    def take(self) -> int:
        """The most in bytes; starts anew."""
        most, self.most = max(self.most, private("self")), 0
        return most


def private(process: str) -> int:
    """RssAnon in bytes; 0 of a process that is gone."""
    with contextlib.suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text(encoding="ascii"))
        return int(found[1]) << 10 if found else 0
    return 0


def children() -> list[str]:
    """The processes that this one started."""
    return [
        number
        for tasks in Path("/proc/self/task").glob("*/children")
        for number in tasks.read_text(encoding="ascii").split()
    ]


def measure(path: Path, run: str) -> str:
    """One row."""
    size, memory, start, clock = (path.parent / "weights.bin").stat().st_size, Memory(), private("self"), time.time()
    steps: dict[str, float] = {}

    def done(step: str) -> None:
        # Stages of the command that belong to one column: the worst of them.
        steps[step] = max(steps.get(step, 0.0), (memory.take() - start) / size)

    command, _, bits = run.rpartition(":")
    make = _command if command else _functions
    files, told = make(path, bits, done)
    taken, written = time.time() - clock, sum(file.stat().st_size for file in files)
    with_runtime = f"{(memory.most_of_all - start) / size:.2f}" if command else ""
    columns = ("load", "decide", "observe", "quantize", "export", "validate")
    shown = " | ".join(f"{steps[column]:.2f}" if column in steps else "" for column in columns)
    most = max(steps.values())
    return f"| {run} | {shown} | {most:.2f} | {with_runtime} | {written / 1e6:,.0f} MB | {taken:.0f} | {told} |"


def _functions(path: Path, bits: str, done: Callable[[str], None]) -> tuple[list[Path], str]:
    """The functions one after the other."""
    import torch

    from edgeq.calibration.nearest import nearest
    from edgeq.calibration.ranges import Ranges, observe
    from edgeq.exporters.onnx import save
    from edgeq.graph.execute import to_torch
    from edgeq.graph.sources import load_model
    from edgeq.plan.bits import Bits
    from edgeq.plan.rules import Request, decide

    graph = load_model(path)
    done("load")
    skeleton = decide(graph, Request(Bits.parse(bits)))
    done("decide")
    ranges = Ranges({}, {}, 0, "none")
    if skeleton.groups:
        ranges = observe(to_torch(graph), [(torch.randn(2, _WIDTH),)], skeleton)
    done("observe")
    plan = nearest(graph, skeleton, ranges)
    done("quantize")
    target = path.parent / f"{bits}.onnx"
    save(graph, plan, target)
    done("export")
    return [target], ""


#: The command's stages -> columns.
_STAGES = {"load": "load", "data": "decide", "calibrate": "observe", "quantize": "quantize", "export": "export"}


def _command(path: Path, bits: str, done: Callable[[str], None]) -> tuple[list[Path], str]:
    """``edgeq convert`` as it is."""
    from edgeq.pipeline import convert
    from edgeq.pipeline.options import Options
    from edgeq.plan.bits import Bits

    class Stages:
        stage = "load"

        def start(self, stage: str) -> None:
            self.stage = stage

        def advance(self, done: int, total: int | None) -> None:
            pass

        def finish(self, message: str) -> None:
            print(f"{self.stage}: {message}", file=sys.stderr, flush=True)
            done(_STAGES.get(self.stage, "validate"))

    output = path.parent / f"release-{bits}"
    options = Options(
        str(path), str(path.parent / "samples.npz"), output, bits=Bits.parse(bits), devices=("cpu-onnxruntime",),
        samples=_SAMPLES // 2, latency_runs=0, diagnose=False, method="nearest",
    )  # fmt: skip
    found = convert(options, Stages())
    (measured,) = found.release.measurements
    parts = [output / artifact.name for artifact in found.release.artifacts]
    told = f"{found.judgement.outcome.value}; {measured.deployed.metric} {measured.deployed.value:.3g}, "
    told += f"{measured.parity.unequal:,} of {measured.parity.compared:,} outputs unlike the simulation's"
    return parts, told


@contextlib.contextmanager
def _generated(folder: str) -> Iterator[Path]:
    """The model in a folder that is kept, or a temporary one."""
    if folder:
        path = Path(folder) / "model.onnx"
        yield path if path.is_file() else generate(Path(folder))
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield generate(Path(temporary))


def main(wanted: list[str]) -> None:
    """Make each row in a process of its own and write the table."""
    if wanted[:1] == ["--measure"]:
        print(measure(Path(wanted[1]), wanted[2]))
        return
    folder = wanted[1] if wanted[:1] == ["--in"] else ""
    wanted = wanted[2:] if folder else wanted
    rows = {}
    if RESULT.is_file():
        rows = {line.split("|")[1].strip(): line for line in RESULT.read_text(encoding="utf-8").splitlines()[2:]}
    with _generated(folder) as path:
        for run in wanted or _ALL:
            command = [sys.executable, __file__, "--measure", str(path), run]
            rows[run] = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            print(rows[run], flush=True)
            RESULT.write_text("\n".join([_HEADER, *(rows[key] for key in sorted(rows))]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
