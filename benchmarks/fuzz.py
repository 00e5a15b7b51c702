"""Damaged ONNX and TFLite files: how many cases, what became of them, and whether any ended badly.

    python benchmarks/fuzz.py [onnx] [tflite] [FIRST-END]   # default both, 0-10000; writes benchmarks/results/fuzz.md

Every case is a seeded mutant of an unbroken file (``tests/fuzz``): bytes changed, cut short, or fields of the model set
to what they must not be. An ONNX mutant is inspected and converted up to the written and audited files; a TFLite mutant
is inspected. Bad is a crash, more than a minute, a traceback, more than one line, or a file outside the output folder.
Parts add up in ``fuzz.json``; a part that is run again replaces itself.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
from assets import FOLDER  # noqa: E402

from tests.fuzz.guard import fuzz  # noqa: E402
from tests.fuzz.worker import Outcome  # noqa: E402

RESULTS = Path(__file__).parent / "results"
_HEADER = (
    "| format | cases | unbroken files | kinds of damage | inspected | refused by inspect | converted "
    "| refused by convert | bad | slowest case | most memory |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
Part = dict[str, Any]


def summary(outcomes: Sequence[Outcome]) -> Part:
    """Counts of one part."""
    inspected, converted = (Counter(getattr(o, step) for o in outcomes) for step in ("inspect", "convert"))
    return {
        "cases": len(outcomes),
        "files": sorted({o.seed for o in outcomes}),
        "damage": sorted({part for o in outcomes for part in o.damage.split("+")}),
        "counts": [inspected["taken"], inspected["refused"], converted["taken"], converted["refused"]],
        "bad": [o.index for o in outcomes if not o.fine],
        "seconds": max(o.seconds for o in outcomes),
        "peak": max(o.peak for o in outcomes),
    }


def row(kind: str, parts: Sequence[Part]) -> str:
    """One line of the table."""
    counts = [f"{sum(numbers):,}" for numbers in zip(*(part["counts"] for part in parts), strict=True)]
    files, damage = ({each for part in parts for each in part[key]} for key in ("files", "damage"))
    return (
        f"| {kind} | {sum(part['cases'] for part in parts):,} | {len(files)} | {len(damage)} | {' | '.join(counts)} "
        f"| {sum(len(part['bad']) for part in parts)} | {max(part['seconds'] for part in parts):.1f} s "
        f"| {max(part['peak'] for part in parts):,} MiB |"
    )


def run(kind: str, first: int, end: int) -> Part:
    """A part; what ends badly is printed."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for outcome in fuzz(kind, first, end, Path(folder), FOLDER if FOLDER.is_dir() else None):
            outcomes.append(outcome)
            if not outcome.fine:
                print(outcome.index, outcome.seed, outcome.damage, outcome.inspect, outcome.convert, outcome.wrote)
    return summary(outcomes)


def main(arguments: list[str]) -> None:
    """Run the cases, add them to those of other parts, and write the table."""
    kinds = [a for a in arguments if not a[:1].isdigit()] or ["onnx", "tflite"]
    wanted = next((a for a in arguments if a[:1].isdigit()), "0-10000")
    first, end = (int(number) for number in wanted.split("-"))
    for kind in kinds:
        part = run(kind, first, end)
        store = RESULTS / "fuzz.json"
        parts = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
        parts.setdefault(kind, {})[wanted] = part
        store.write_text(json.dumps(parts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        lines = [row(each, list(parts[each].values())) for each in sorted(parts)]
        (RESULTS / "fuzz.md").write_text("\n".join([_HEADER, *lines]) + "\n", encoding="utf-8")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
