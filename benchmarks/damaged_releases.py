"""A real release against its baseline, and damaged ones: what the gate says to each, and why.

    python benchmarks/damaged_releases.py [MODEL ...]     # writes benchmarks/results/damaged_releases.md

The damages: calibration with other preprocessing than the model's (pixels are not normalized), one scale doubled, all
weights quantized again per tensor, and a graph with 200 ops more that change no number. Default budgets.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgeq.pipeline.options import Options
from edgeq.release.gate import gate
from edgeq.release.outcome import Judgement, Outcome
from edgeq.release.report_json import read_report

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from assets import CASES, Case, write_samples

from tests.release.damages import Damage, build, double_a_scale, one_scale_for_all_channels, slow_down

RESULT = Path(__file__).parent / "results" / "damaged_releases.md"
HEADER = ["| model | release | verdict | checks that do not pass, and their reasons |", "|---|---|---|---|"]
KINDS: tuple[tuple[str, Damage | None, bool], ...] = (
    ("the same again", None, False),
    ("wrong preprocessing", None, True),
    ("one scale doubled", double_a_scale, False),
    ("per tensor", one_scale_for_all_channels, False),
    ("slower graph", slow_down, False),
)


def released(case: Case, folder: Path, samples: tuple[Path, Path], damage: Damage | None, name: str) -> Path:
    """A release by that name; the run folder is shared, so that only what a damage changes is measured again."""
    options = Options(
        model=str(case.model),
        data=str(samples[0]),
        evaluation=str(samples[1]),
        output=folder / "release",
        devices=("cpu-onnxruntime",),
        method="nearest",
        evaluation_samples=2000,
        diagnose=False,
        **case.options,
    )
    build(options, damage)
    return Path(shutil.move(folder / "release", folder / name))


def without_normalization(path: Path) -> Path:
    """The calibration samples moved into [0, 1], as if nobody had normalized them."""
    with np.load(path) as stored:
        arrays = dict(stored)
    low, high = arrays["x"].min(), arrays["x"].max()
    arrays["x"] = (arrays["x"] - low) / (high - low)
    np.savez(path.with_name("wrong.npz"), **arrays)
    return path.with_name("wrong.npz")


def row(model: str, name: str, judgement: Judgement) -> str:
    """One line of the table."""
    told = [f"`{c.name}`: {c.reason}" for c in judgement.checks if c.outcome is not Outcome.PASS]
    return f"| {model} | {name} | {judgement.outcome.value} | {'<br>'.join(told).replace('|', chr(92) + '|')} |"


def main(wanted: list[str]) -> None:
    """Build, damage, judge."""
    lines = []
    names = wanted or ["resnet20", "kws_dscnn"]
    for case in (case for case in CASES if case.name in names):
        with tempfile.TemporaryDirectory() as place:
            samples = write_samples(case, Path(place))
            wrong = without_normalization(samples[0])
            baseline = read_report(released(case, Path(place), samples, None, "baseline"))[0]
            for name, damage, unnormalized in KINDS:
                data = (wrong if unnormalized else samples[0], samples[1])
                folder = released(case, Path(place), data, damage, name.replace(" ", "-"))
                lines.append(row(case.name, name, gate(read_report(folder)[0], baseline=baseline, folder=folder)))
                print(lines[-1], flush=True)
    # A model that was not run keeps the rows of its last run.
    before = RESULT.read_text(encoding="utf-8").splitlines()[2:] if RESULT.is_file() else []
    ran = {line.split("|")[1].strip() for line in lines}
    kept = [line for line in before if line.split("|")[1].strip() not in ran]
    RESULT.write_text("\n".join([*HEADER, *kept, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
