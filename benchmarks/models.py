"""Every model through ``edgeq convert``: float on target, simulated and deployed accuracy, agreement, parity, latency.

    python benchmarks/models.py [--all] [MODEL ...]     # writes benchmarks/results/models.md

``perplexity`` is shown as the mean negative log-likelihood of a token.
"""

import sys
import tempfile
from pathlib import Path

from edgeq.measurement import Measurement
from edgeq.pipeline import Conversion, convert
from edgeq.pipeline.options import Options

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, FOLDER, MORE_CASES, write_samples

RESULTS = Path(__file__).parent / "results"
_HEADER = (
    "| model | device | metric | float on target | simulated | deployed | decisions simulated = deployed "
    "| outputs unequal | integer MACs | latency ratio to float (95 % interval) | gate |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(name: str, result: Conversion, m: Measurement) -> str:
    """One line of the table."""
    latency = m.latency
    ratio = (
        "" if latency is None else f"{latency.ratio.estimate:.3f} ({latency.ratio.low:.3f}-{latency.ratio.high:.3f})"
    )
    same = m.parity.decisions_agree
    values = (m.float_on_target, m.simulated, m.deployed)
    share = m.deployed.metric in ("top1", "agreement")
    shown = " | ".join(f"{v.value:.2%}" if share else f"{v.value:.5g}" for v in values)
    return (
        f"| {name} | {m.device.profile} | {m.deployed.metric} | {shown} "
        f"| {'' if same is None else f'{same:.2%}'} | {m.parity.unequal:,} of {m.parity.compared:,} "
        f"| {m.integer_mac_share:.1%} | {ratio} | {result.judgement.outcome.value} |"
    )


def main(wanted: list[str]) -> None:
    """Convert each case and write the table."""
    cases = (*CASES, *MORE_CASES) if "--all" in wanted else CASES
    names = [name for name in wanted if not name.startswith("-")]
    lines = [_HEADER]
    sys.path.insert(0, str(FOLDER / "stories260k"))
    for case in (case for case in cases if not names or case.name in names):
        with tempfile.TemporaryDirectory() as folder:
            calibration, evaluation = write_samples(case, Path(folder))
            release = Path(folder) / "release"
            options = Options(str(case.model), str(calibration), release, evaluation=str(evaluation), **case.options)
            result = convert(options)
        for measurement in result.release.measurements:
            lines.append(row(case.name, result, measurement))
            print(lines[-1], flush=True)
        for check in result.judgement.checks:
            if check.outcome.value != "pass":
                print(f"  {check.outcome.value} {check.name} {check.device}: {check.reason}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    # A model that was not run keeps the rows of its last run.
    path = RESULTS / "models.md"
    before = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    ran = {line.split("|")[1].strip() for line in lines[1:]}
    kept = [line for line in before[2:] if line.startswith("|") and line.split("|")[1].strip() not in ran]
    path.write_text("\n".join([*lines[:1], *kept, *lines[1:]]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
