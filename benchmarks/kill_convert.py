"""Kill -9 of ``edgeq convert`` at random moments: the release is absent, the old one, or whole; the next run finishes.

    python benchmarks/kill_convert.py [COUNT]     # default 100; writes benchmarks/results/kill_convert.md

Each time, in a fresh folder: a run is killed after a random time (seeded, up to what an uninterrupted run takes), what
lies at the release's place is compared, byte by byte, with the old release and with an uninterrupted run's, the same
command is run to its end, and what it wrote is compared again. In every second folder an older release (of other bits)
lies at the place before. The next run must also clean up: nothing but the release and the run folder may be left.
Latency is left out, since times are never the same twice.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from edgeq.demo import EVALUATION, MODEL, TRAIN

RESULT = Path(__file__).parent / "results" / "kill_convert.md"
STATES = ("absent", "the old one", "whole", "anything else")
Contents = dict[str, bytes]


def command(folder: Path, bits: str = "w4a8") -> list[str]:
    """A conversion of the demonstration's model into a folder."""
    call = [sys.executable, "-m", "edgeq", "convert", str(MODEL), "--data", str(TRAIN), "--eval", str(EVALUATION)]
    return [*call, "--bits", bits, "--latency-runs", "0", "--max-drop", "0.02", "-q", "-o", str(folder / "release")]


def contents(folder: Path) -> Contents | None:
    """Every file of a release, or None where there is none."""
    release = folder / "release"
    return {path.name: path.read_bytes() for path in sorted(release.iterdir())} if release.exists() else None


def uninterrupted(folder: Path, bits: str) -> tuple[Contents, float]:
    """What a run that nobody stops writes, and its seconds."""
    began = time.perf_counter()
    subprocess.run(command(folder, bits), check=True, capture_output=True)
    written = contents(folder)
    assert written is not None
    return written, time.perf_counter() - began


def kill(folder: Path, delay: float) -> bool:
    """Start a run and kill it after so many seconds; whether it was still running."""
    with subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay)
        alive = process.poll() is None
        process.kill()
    return alive


def state_of(found: Contents | None, old: Contents | None, wanted: Contents) -> str:
    """What lies at the release's place, in one of the words of the table."""
    if found == old:
        return "absent" if old is None else "the old one"
    return "whole" if found == wanted else "anything else"


def table(counts: dict[str, Counter[str]]) -> str:
    """The Markdown table."""
    columns = ("kills", "while running", *STATES, "next run did not finish", "other bytes", "left over")
    rows = [f"| before | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    rows += [
        f"| {before} | {' | '.join(str(found[column]) for column in columns)} |" for before, found in counts.items()
    ]
    return "\n".join(rows) + "\n"


def main(count: int) -> None:
    """Kill, look, finish, compare."""
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        old, _ = uninterrupted(Path(first), "w8a8")  # also warms the file cache, so that the time below is a usual one
        wanted, seconds = uninterrupted(Path(second), "w4a8")
        counts: dict[str, Counter[str]] = {"nothing": Counter(), "an older release": Counter()}
        for number in range(count):
            before = list(counts)[number % 2]
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                if before != "nothing":
                    shutil.copytree(Path(first) / "release", folder / "release")
                found = counts[before]
                found["kills"] += 1
                found["while running"] += kill(folder, moments.uniform(0, seconds))
                found[state_of(contents(folder), old if before != "nothing" else None, wanted)] += 1
                found["next run did not finish"] += subprocess.run(command(folder), capture_output=True).returncode != 0
                found["other bytes"] += contents(folder) != wanted
                found["left over"] += {path.name for path in folder.iterdir()} != {"release", ".release.run"}
            print(number + 1, {key: dict(value) for key, value in counts.items()}, flush=True)
    text = table(counts)
    print(text)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
