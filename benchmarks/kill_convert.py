"""Kill -9 of ``edgeq convert`` at random moments: the release folder must be absent or whole, and the next run finish.

    python benchmarks/kill_convert.py [COUNT]     # default 100; writes benchmarks/results/kill_convert.md

Each time, in a fresh folder: a run is killed after a random time (seeded, up to what an uninterrupted run takes), the
release folder is checked against its own lock, the same command is run to its end, and every byte that it wrote is
compared with an uninterrupted run's. Latency is left out, since times are never the same twice.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgeq.demo import EVALUATION, MODEL, TRAIN
from edgeq.errors import DataError
from edgeq.release.bundle import verify_bundle


def command(folder: Path) -> list[str]:
    """A conversion of the demonstration's model into a folder."""
    call = [sys.executable, "-m", "edgeq", "convert", str(MODEL), "--data", str(TRAIN), "--eval", str(EVALUATION)]
    return [
        *call,
        "--bits",
        "w4a8",
        "--latency-runs",
        "0",
        "--max-drop",
        "0.02",
        "--quiet",
        "-o",
        str(folder / "release"),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a release."""
    return {path.name: path.read_bytes() for path in sorted((folder / "release").iterdir())}


def kill_once(delay: float, folder: Path) -> str:
    """State of the release folder after a kill: absent, whole or broken."""
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    process.kill()
    process.wait()
    if not (folder / "release").exists():
        return "absent"
    try:
        _, problems = verify_bundle(folder / "release")
    except DataError as error:
        return f"broken: {error}"
    return f"broken: {problems[0]}" if problems else "whole"


def main(count: int) -> None:
    """Kill, look, finish, compare."""
    moments = random.Random(0)
    states: dict[str, int] = {}
    different = 0
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        subprocess.run(command(Path(name)), check=True, capture_output=True)
        whole = time.perf_counter() - began
        wanted = contents(Path(name))
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name:
            state = kill_once(moments.uniform(0, whole), Path(name))
            states[state] = states.get(state, 0) + 1
            subprocess.run(command(Path(name)), check=True, capture_output=True)
            different += contents(Path(name)) != wanted
    lines = [
        "| kills | " + " | ".join(states) + " | runs that then finished with other bytes |",
        "|---" * (len(states) + 2) + "|",
    ]
    lines.append(f"| {count} | " + " | ".join(map(str, states.values())) + f" | {different} |")
    print("\n".join(lines))
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "kill_convert.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
