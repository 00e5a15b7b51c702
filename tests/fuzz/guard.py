"""Run the worker over a range of cases: one that crashes, hangs or eats memory is noted, and the rest goes on."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .worker import Outcome

ROOT = Path(__file__).parents[2]
#: Starting Python, PyTorch and the runtimes.
_START = 180.0


def fuzz(
    kind: str,
    first: int,
    end: int,
    folder: Path,
    assets: Path | None = None,
    *,
    seconds: float = 60.0,
) -> Iterator[Outcome]:
    """The outcome of every case from ``first`` up to ``end``.

    Args:
        kind: onnx or tflite.
        first: index of the first case.
        end: index behind the last.
        folder: where the cases are written; everything in it may be overwritten.
        assets: folder of real models, or None.
        seconds: that one case may take: it takes a tenth, and a shared machine may be many times slower.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while first < end:
        for outcome in _until_it_ends(kind, first, end, folder, assets, seconds):
            yield outcome
            first = outcome.index + 1


def _until_it_ends(
    kind: str, first: int, end: int, folder: Path, assets: Path | None, seconds: float
) -> Iterator[Outcome]:
    """The outcomes of one process; the last tells how it ended, unless it did all."""
    command = [sys.executable, "-m", "tests.fuzz.worker", kind, str(first), str(end), str(folder.resolve())]
    command += [str(assets.resolve())] if assets is not None else []
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    errors = (folder / "stderr.txt").open("w+b")
    with errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment) as process:
        at = first
        try:
            for line in _lines(process, seconds):
                found = json.loads(line)
                if "at" in found:
                    at = found["at"]
                    continue
                found["wrote"] = tuple(found["wrote"])
                yield Outcome(**found)
            code = process.wait(_START)
            how = None if code == 0 else f"the process ended with {code}"
        except TimeoutError:
            how = f"it took more than {seconds:g} s"
        finally:
            process.kill()
        if how is not None:
            errors.seek(0)
            said = errors.read()[-2000:].decode(errors="replace")
            yield Outcome(at, "", "", how, how, said, (), 0.0, 0)


def _lines(process: subprocess.Popen[bytes], seconds: float) -> Iterator[bytes]:
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    buffered, wait = b"", _START
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(wait):
                raise TimeoutError
            piece = process.stdout.read()
            if piece == b"":
                return
            *whole, buffered = (buffered + (piece or b"")).split(b"\n")
            yield from whole
            wait = seconds
