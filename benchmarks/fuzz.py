"""Damaged ONNX and TFLite files: how many cases, what became of them, and whether any ended badly.

    python benchmarks/fuzz.py [onnx] [tflite] [COUNT]     # default both, 10,000 each; writes benchmarks/results/fuzz.md

Every case is a seeded mutant of an unbroken file (``tests/fuzz``): bytes changed, cut short, or fields of the model set
to what they must not be. An ONNX mutant is inspected and converted up to the written and audited files; a TFLite mutant
is inspected. Bad is a crash, more than a minute, a traceback, more than one line, or a file outside the output folder.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
from assets import FOLDER  # noqa: E402

from tests.fuzz.guard import fuzz  # noqa: E402
from tests.fuzz.worker import Outcome  # noqa: E402

RESULT = Path(__file__).parent / "results" / "fuzz.md"
_HEADER = (
    "| format | cases | unbroken files | kinds of damage | inspected | refused by inspect | converted "
    "| refused by convert | bad | slowest case | most memory |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(kind: str, outcomes: Sequence[Outcome]) -> str:
    """One line of the table."""
    inspected, converted = (Counter(getattr(o, step) for o in outcomes) for step in ("inspect", "convert"))
    damage = {part for outcome in outcomes for part in outcome.damage.split("+")}
    shown = [f"{n:,}" for n in (inspected["taken"], inspected["refused"], converted["taken"], converted["refused"])]
    return (
        f"| {kind} | {len(outcomes):,} | {len({o.seed for o in outcomes})} | {len(damage)} | {' | '.join(shown)} "
        f"| {sum(not o.fine for o in outcomes)} | {max(o.seconds for o in outcomes):.1f} s "
        f"| {max(o.peak for o in outcomes):,} MiB |"
    )


def main(arguments: list[str]) -> None:
    """Run the cases and write the table; a format that was not run keeps its row."""
    kinds = [a for a in arguments if not a.isdigit()] or ["onnx", "tflite"]
    count = next((int(a) for a in arguments if a.isdigit()), 10_000)
    rows = {}
    if RESULT.is_file():
        rows = {line.split("|")[1].strip(): line for line in RESULT.read_text(encoding="utf-8").splitlines()[2:]}
    for kind in kinds:
        outcomes = []
        with tempfile.TemporaryDirectory() as folder:
            for outcome in fuzz(kind, 0, count, Path(folder), FOLDER if FOLDER.is_dir() else None):
                outcomes.append(outcome)
                if not outcome.fine:
                    print(outcome.index, outcome.seed, outcome.damage, outcome.inspect, outcome.convert, outcome.wrote)
        rows[kind] = row(kind, outcomes)
        print(rows[kind], flush=True)
    RESULT.write_text("\n".join([_HEADER, *(rows[kind] for kind in sorted(rows))]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
