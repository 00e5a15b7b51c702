"""A process that feeds damaged files to edgeq and says, line by line, what became of each; it may crash or hang.

    python -m tests.fuzz.worker {onnx|tflite} FIRST END FOLDER [ASSETS]

Before a case it writes {"at": index}, after it the :class:`Outcome` as JSON.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.cli import main
from edgeq.errors import EdgeqError
from edgeq.pipeline.artifacts import write_files
from edgeq.pipeline.inputs import check_devices, open_model, open_profiles, open_sets, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.quantize import calibrate, quantize
from edgeq.plan.rules import decide
from edgeq.progress import SILENT
from edgeq.run_folder import RunFolder

from . import onnx_mutations, tflite_mutations
from .seeds import GENERATED, real

#: What a case may allocate beyond what the libraries take.
_MEMORY = 3 << 30
#: Every so many cases are taken from the real models, which are slower.
_REAL_EVERY = 8


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file.

    Attributes:
        index: of the case.
        seed: the file that was damaged.
        damage: what was done to it.
        inspect: taken, refused, not asked, or the traceback.
        convert: likewise.
        message: why it was refused.
        wrote: paths that were written outside of the output folder.
        seconds: that it took.
        peak: of the process's memory so far, in MiB.
    """

    index: int
    seed: str
    damage: str
    inspect: str
    convert: str
    message: str
    wrote: tuple[str, ...]
    seconds: float
    peak: int

    @property
    def fine(self) -> bool:
        """Whether edgeq kept its promise."""
        return {self.inspect, self.convert} <= {"taken", "refused", "not asked"} and not self.wrote


class Watch:
    """Notes every file that Python opens for writing, makes, moves or removes outside of some folders."""

    _CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})

    def __init__(self, allowed: Sequence[Path]) -> None:
        self.allowed = tuple(str(path) for path in allowed)
        self.wrote: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(
                c in (mode or "") for c in "wax+"
            )
            self._note([path] if writes else [])
        elif event in self._CHANGES:
            paths = [each for each in arguments[:2] if isinstance(each, str | bytes | os.PathLike)]
            # Relative to a folder's descriptor: rmtree of a folder that was itself noted.
            beside = any(isinstance(each, int) and each >= 0 for each in arguments[-1:])
            self._note([] if beside and event != "os.link" else paths)

    def _note(self, paths: list[Any]) -> None:
        for path in paths:
            if isinstance(path, int):
                continue
            full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # Path.resolve would follow links
            if full != os.devnull and not any(full == a or full.startswith(f"{a}/") for a in self.allowed):
                self.wrote.append(full)


Action = Callable[[], None]
#: Index -> (name of the unbroken file, what was done to it, inspect it, convert it).
Case = Callable[[int], tuple[str, str, Action, Action | None]]


def attempt(action: Action | None) -> tuple[str, str]:
    """Taken, refused, or the traceback of whatever else was raised; and the message."""
    if action is None:
        return "not asked", ""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            action()
    except EdgeqError as error:
        text = " ".join(str(error).split())  # as the command line prints it
        return "refused" if text else f"an empty {type(error).__name__}", text
    except BaseException:
        return "\n".join(traceback.format_exc().splitlines()[-40:]), ""
    return "taken", ""


def inspect(path: Path) -> None:
    """The command line's inspect, whose error is one line with the documented code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["inspect", str(path), "-v"])
        except SystemExit as end:
            code = end.code
    lines = err.getvalue().splitlines()
    if code == 0 and not lines and out.getvalue():
        return
    if code == 2 and len(lines) == 1 and lines[0].startswith("edgeq: ") and not out.getvalue():
        raise EdgeqError(lines[0])
    raise AssertionError(f"exit code {code}, standard error {err.getvalue()[:2000]!r}")


def convert(path: Path, folder: Path) -> None:
    """All of a conversion but the runs on devices."""
    options = Options(
        str(path), str(folder / "data.npz"), folder / "out" / "release", samples=4, method="nearest", latency_runs=0
    )
    with RunFolder(folder / "out" / ".release.run") as run_folder:
        model, profiles = open_model(options), open_profiles(options)
        skeleton = decide(model.graph, request(options, profiles))
        check_devices(skeleton, profiles)
        sets = open_sets(options, model.graph)
        ranges = calibrate(options, model, skeleton, sets, run_folder, SILENT)
        quantized = quantize(options, model, skeleton, ranges, sets, run_folder, SILENT)
        write_files(options, quantized.model, quantized.plan, profiles)


def clear(folder: Path) -> None:
    """Nothing of the last case is left."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()


def onnx_case(folder: Path, assets: Path | None) -> Case:
    """Damaged ONNX files: inspected, and converted with samples of the unbroken model."""
    generated, more = [make() for make in GENERATED], real(assets) if assets is not None else []
    path = folder / "in" / "model.onnx"

    def case(index: int) -> tuple[str, str, Action, Action | None]:
        seed = generated[index % len(generated)]
        if more and index % _REAL_EVERY == 0:
            seed = more[index // _REAL_EVERY % len(more)]
        damage, data = onnx_mutations.mutant(seed, index)
        path.write_bytes(data)
        for name, content in seed.beside.items():
            (folder / "in" / name).write_bytes(content)
        np.savez(folder / "data.npz", **seed.samples())  # type: ignore[arg-type]
        return seed.name, damage, lambda: inspect(path), lambda: convert(path, folder)

    return case


def tflite_case(folder: Path, assets: Path | None) -> Case:
    """Damaged TFLite files: inspected."""
    files = tflite_mutations.sound_files(folder / "tmp", assets)
    path = folder / "in" / "model.tflite"

    def case(index: int) -> tuple[str, str, Action, Action | None]:
        sound = files[index % len(files)]
        damage, data = tflite_mutations.mutant(sound, index)
        path.write_bytes(data)
        return sound.name, damage, lambda: inspect(path), None

    return case


def faulty_case(folder: Path, assets: Path | None) -> Case:
    """All that must not happen, in turn: what the guard is tested with."""

    def write() -> None:
        (folder / "in" / "stray").touch()

    def divide() -> None:
        _ = 1 / 0

    def crash() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def fine() -> None:
        (folder / "out" / "result").touch()

    actions: tuple[Action, ...] = (crash, lambda: time.sleep(1000), write, divide, fine)
    return lambda index: ("none", "none", actions[index % len(actions)], None)


_CASES = {"onnx": onnx_case, "tflite": tflite_case, "faulty": faulty_case}


def run(kind: str, first: int, end: int, folder: Path, assets: Path | None) -> None:
    """All cases, one after the other."""
    report = os.fdopen(os.dup(1), "w")
    for name in ("in", "out", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder / "tmp")
    os.chdir(folder / "in")
    case = _CASES[kind](folder, assets)
    watch = Watch([folder / "out", folder / "tmp"])
    resource.setrlimit(resource.RLIMIT_DATA, (_data_size() + _MEMORY, resource.RLIM_INFINITY))
    for index in range(first, end):
        print(json.dumps({"at": index}), file=report, flush=True)
        name, damage, inspects, converts = case(index)
        clear(folder)
        watch.wrote.clear()
        begin = time.perf_counter()
        (inspected, said), (converted, message) = attempt(inspects), attempt(converts)
        seconds = time.perf_counter() - begin
        wrote = tuple(dict.fromkeys(watch.wrote))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        outcome = Outcome(index, name, damage, inspected, converted, message or said, wrote, round(seconds, 3), peak)
        print(json.dumps(asdict(outcome)), file=report, flush=True)


def _data_size() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmData:")[1].split()[0]) << 10


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]) if sys.argv[5:] else None)
