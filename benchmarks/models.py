"""Every model through ``edgeq convert``: float on target, simulated and deployed accuracy, agreement, parity, latency.

    python benchmarks/models.py [MODEL ...]     # writes benchmarks/results/models.md
"""

import sys
import tempfile
from pathlib import Path

from edgeq.measurement import Measurement
from edgeq.pipeline import Conversion, convert
from edgeq.pipeline.options import Options

sys.path.insert(0, str(Path(__file__).parent))
from assets import CASES, write_samples

RESULTS = Path(__file__).parent / "results"
_HEADER = (
    "| model | device | float on target | simulated | deployed | agreement of simulated and deployed | outputs unequal "
    "| integer MACs | latency ratio to float (95 % interval) | outcome |\n|---|---|---|---|---|---|---|---|---|---|"
)


def row(name: str, result: Conversion, m: Measurement) -> str:
    """One line of the table."""
    latency = m.latency
    ratio = "" if latency is None else f"{latency.ratio.estimate:.3f} ({latency.ratio.low:.3f}-{latency.ratio.high:.3f})"
    same = m.parity.decisions_agree
    return (
        f"| {name} | {m.device.profile} | {m.float_on_target.value:.2%} | {m.simulated.value:.2%} | {m.deployed.value:.2%} "
        f"| {'' if same is None else f'{same:.2%}'} | {m.parity.unequal:,} of {m.parity.compared:,} "
        f"| {m.integer_mac_share:.1%} | {ratio} | {result.judgement.outcome.value} |"
    )


def main(wanted: list[str]) -> None:
    """Convert each case and write the table."""
    lines = [_HEADER]
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            calibration, evaluation = write_samples(case, Path(folder))
            options = Options(str(case.model), str(calibration), Path(folder) / "release", evaluation=str(evaluation))
            result = convert(options)
        for measurement in result.release.measurements:
            lines.append(row(case.name, result, measurement))
            print(lines[-1], flush=True)
        for check in result.judgement.checks:
            if check.outcome.value != "pass":
                print(f"  {check.outcome.value} {check.name} {check.device}: {check.reason}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "models.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
