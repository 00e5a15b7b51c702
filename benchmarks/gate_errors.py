"""How often the gate errs, with known truth: 10,000 synthetic releases for each row; and how many samples it needs.

    python benchmarks/gate_errors.py     # writes benchmarks/results/gate_errors.md

A release on the border is the hardest one: its true drop is exactly the tolerated one, so that passing and failing it
are both errors, each of which may happen in at most 5 % of the cases. Between them the gate says INCONCLUSIVE.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgeq.release.statistics.power import samples_needed
from tests.release.synthetic import ALPHA, RELEASES, fail_rate, pass_rate, releases

RESULT = Path(__file__).parent / "results" / "gate_errors.md"
SAMPLES = (50, 200, 1_000, 10_000)
BORDERS = ((0.005, 0.006), (0.01, 0.03), (0.05, 0.1))
POWERS = ((0.01, 0.001), (0.01, 0.02), (0.01, 0.05), (0.005, 0.02), (0.03, 0.03))


def errors() -> list[str]:
    """False passes and false fails on the border."""
    lines = [
        f"Releases whose true drop is exactly the tolerated one, {RELEASES:,} for each row; both errors may be 5 %.",
        "",
        "| samples | tolerated drop | decisions that change | false passes | false fails | inconclusive |",
        "|---|---|---|---|---|---|",
    ]
    for samples in SAMPLES:
        for limit, disagreement in BORDERS:
            drawn = releases(samples, disagreement, drop=limit)
            passed, failed = pass_rate(samples, drawn, limit), fail_rate(samples, drawn, limit)
            cells = (f"{samples:,}", f"{limit:.1%}", f"{disagreement:.1%}", f"{passed:.2%}", f"{failed:.2%}")
            lines.append(f"| {' | '.join(cells)} | {1 - passed - failed:.2%} |")
            print(lines[-1], flush=True)
    return lines


def power() -> list[str]:
    """The number of samples that the gate names, and how many of the releases without any loss it then passes."""
    lines = [
        f"Releases that truly lost nothing, {RELEASES:,} for each row: the samples that the gate asks for with a power "
        "of 80 %, and how many of them it passes with so many.",
        "",
        "| tolerated drop | decisions that change | samples named | passed |",
        "|---|---|---|---|",
    ]
    for limit, disagreement in POWERS:
        samples = samples_needed(disagreement, limit, ALPHA)
        assert samples is not None
        reached = pass_rate(samples, releases(samples, disagreement, drop=0.0), limit)
        lines.append(f"| {limit:.1%} | {disagreement:.1%} | {samples:,} | {reached:.1%} |")
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    RESULT.write_text("\n".join([*power(), "", *errors()]) + "\n", encoding="utf-8")
