"""A release made again: in another folder, from inputs that lie elsewhere, with another number of threads.

    python benchmarks/rebuild.py [MODEL|BITS ...]     # default kws_dscnn resnet20; writes benchmarks/results/rebuild.md

Each model is released with one thread, then made again by `edgeq verify --rebuild` with two, from copies of its inputs
in another folder; "same" means that every byte of both model files is, from the same inputs and versions. Then once
more with the libraries held to AVX2, as on another kind of CPU: that is not promised to be the same.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, Case, write_samples

RESULT = Path(__file__).parent / "results" / "rebuild.md"
HEADER = ["| model | bits | made with | rebuilt with | outcome | files |", "|---|---|---|---|---|---|"]
OTHER_CPU = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"}
REBUILDS: tuple[tuple[str, int, dict[str, str]], ...] = (
    ("2 threads, another folder", 2, {}),
    ("1 thread, another folder, no AVX-512", 1, OTHER_CPU),
)
BITS = ("w8a8", "w4a8")


def edgeq(
    threads: int, folder: Path, *arguments: object, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line with so many threads, from a folder of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **(more or {})}
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "edgeq", *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def rows(case: Case, bits: str) -> Iterator[str]:
    """Release, copy the inputs elsewhere, make it again, compare."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory(prefix="elsewhere-") as second:
        here, there = Path(first), Path(second)
        calibration, evaluation = write_samples(case, here)
        inputs = (Path(case.model), calibration, evaluation)
        release = here / "release"
        given = ["--bits", bits, "--eval-samples", 1000, "--latency-runs", 0, "--no-diagnose", "-q", "-o", release]
        made = edgeq(1, here, "convert", inputs[0], "--data", inputs[1], "--eval", inputs[2], *given)
        if made.returncode not in (0, 1, 3):
            sys.exit(made.stderr)
        model, data, labelled = (shutil.copy(path, there / path.name) for path in inputs)
        lock = json.loads((release / "edgeq.lock").read_text(encoding="utf-8"))
        files = ", ".join(f"`{name}` {value['sha256'][:12]}" for name, value in lock["recipe"]["artifacts"].items())
        for told, threads, more in REBUILDS:
            copies = ("--model", model, "--data", data, "--eval", labelled)
            again = edgeq(threads, there, "verify", release, "--rebuild", *copies, "--json", more=more)
            found = json.loads(again.stdout)
            outcome = "same" if found["rebuilt"] and not found["problems"] else "; ".join(found["problems"])
            yield f"| {case.name} | {bits} | 1 thread | {told} | {outcome} | {files} |"


def write(lines: list[str]) -> None:
    """The table; a model that was not run keeps the rows of its last run."""
    before = RESULT.read_text(encoding="utf-8").splitlines()[2:] if RESULT.is_file() else []
    ran = {tuple(line.split("|")[1:3]) for line in lines}
    kept = [line for line in before if tuple(line.split("|")[1:3]) not in ran]
    RESULT.write_text("\n".join([*HEADER, *kept, *lines]) + "\n", encoding="utf-8")


def main(wanted: list[str]) -> None:
    """Make each model again and write the table as it grows."""
    names = [name for name in wanted if name not in BITS] or ["kws_dscnn", "resnet20"]
    lines = []
    for case in (case for case in CASES if case.name in names):
        for bits in [name for name in wanted if name in BITS] or BITS:
            for line in rows(case, bits):
                print(line, flush=True)
                lines.append(line)
                write(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
