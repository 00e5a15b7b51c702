"""Every model through ``edgeq convert``: float on target, simulated and deployed accuracy, agreement, parity, latency.

    python benchmarks/models.py [--all] [MODEL ...]     # writes benchmarks/results/models.md

A model that is not run keeps its rows. Without ``--all`` or a name only those with labelled images or keywords run.
``perplexity`` is shown as the mean negative log-likelihood of a token. The last column says of the checks of the gate
that did not pass why, and what a model's own judge finds in the deployed outputs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from assets import CASES, FOLDER, MORE_CASES, Case, write_samples

from edgeq.devices import load_profile, open_device
from edgeq.errors import EdgeqError
from edgeq.measurement import Measurement
from edgeq.pipeline import Conversion, convert
from edgeq.pipeline.options import Options

RESULTS = Path(__file__).parent / "results" / "models.md"
_HEADER = (
    "| model | device | metric | float on target | simulated | deployed | decisions simulated = deployed "
    "| outputs unequal | integer MACs | latency ratio to float (95 % interval) | gate | why |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)
_COLUMNS = 12
_LONGEST = 160


def row(name: str, result: Conversion, m: Measurement, found: str) -> str:
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
        f"| {m.integer_mac_share:.1%} | {ratio} | {result.judgement.outcome.value} | {_why(result, m, found)} |"
    )


def _why(result: Conversion, m: Measurement, found: str) -> str:
    open_checks = [c for c in result.judgement.checks if c.outcome.value != "pass" and c.device == m.device.profile]
    reasons = [f"{check.name}: {check.reason}" for check in open_checks]
    texts = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..." for text in (*reasons, found) if text]
    return "; ".join(texts).replace("|", "\\|")


def judge(case: Case, m: Measurement, release: Path, samples: Path) -> str:
    """What the case's own judge says of the outputs that the released file gives on its device."""
    if case.judge is None:
        return ""
    content = np.load(samples)
    inputs = {key: content[key] for key in content.files if key != "y"}
    with open_device(load_profile(m.device.profile)) as device:
        handle = device.load((release / m.artifact).read_bytes(), name=m.artifact)
        # With fixed shapes a sample is a whole input.
        count = len(next(iter(inputs.values()))) if "shapes" in case.options else 0
        parts = [{key: array[i] for key, array in inputs.items()} for i in range(count)] or [inputs]
        deployed = [next(iter(device.run(handle, part).values())) for part in parts]
    return case.judge(np.concatenate(deployed))


def rows(case: Case) -> list[str]:
    """The lines of a case; one with the reason if it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        calibration, evaluation = write_samples(case, Path(folder))
        release = Path(folder) / "release"
        options = Options(
            str(case.model), str(calibration), release, evaluation=str(evaluation), diagnose=False, **case.options
        )
        try:
            result = convert(options)
        except EdgeqError as error:
            return [f"| {case.name} {'| ' * (_COLUMNS - 1)}| {error} |"]
        lines = [row(case.name, result, m, judge(case, m, release, evaluation)) for m in result.release.measurements]
    lines += [f"| {case.name} | {device} {'| ' * (_COLUMNS - 2)}| {why} |" for device, why in result.failures.items()]
    return lines


def cases(names: list[str], *, every: bool) -> list[Case]:
    """The cases that were asked for; those of packages are made only then, for they are downloaded."""
    found = [case for case in (*CASES, *MORE_CASES) if case.name in names]
    if not names:
        found = [*CASES, *(MORE_CASES if every else ())]
    if (every and not names) or any(name.startswith(("minilm", "vit")) for name in names):
        from transformers_cases import TRANSFORMERS

        found += [case for case in TRANSFORMERS if not names or case.name in names]
    unknown = set(names) - {case.name for case in found}
    if unknown:
        sys.exit(f"no model is called {', '.join(sorted(unknown))}")
    return found


def main() -> None:
    """Convert each case and merge its rows into the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MODEL")
    parser.add_argument("--all", action="store_true", help="every model")
    options = parser.parse_args()
    sys.path.insert(0, str(FOLDER / "stories260k"))
    for case in cases(options.names, every=options.all):
        new = rows(case)
        print("\n".join(new), flush=True)
        before = RESULTS.read_text(encoding="utf-8").splitlines()[2:] if RESULTS.is_file() else []
        kept = [_padded(line) for line in before if line.startswith("|") and line.split("|")[1].strip() != case.name]
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([_HEADER, *kept, *new]) + "\n", encoding="utf-8")


def _padded(line: str) -> str:
    return line + "  |" * (_COLUMNS - line.replace("\\|", "").count("|") + 1)


if __name__ == "__main__":
    main()
