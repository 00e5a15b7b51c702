"""``edgeq profile``: latency of an artefact, alone or against another, with the time of each op."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.devices.profiling import Profiling
    from edgeq.measurement import Latency

_ROWS = 12


@click.command(short_help="Latency of an artefact.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another file to compare with, such as the float model."
)
@click.option("--device", help="Device profile, by name or .toml file; default: this machine.")
@click.option("--runs", default=300, show_default=True, help="Timed runs; against another file, pairs of runs.")
@click.option("--seed", default=0, show_default=True, help="Of the random input and of the interval.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Only the result, without the time of each op.")
def command(
    artifact: Path, against: Path | None, device: str | None, runs: int, seed: int, as_json: bool, quiet: bool
) -> None:
    """Time ARTIFACT (.onnx or .tflite) on a device, with random input, in turn with --against if it is given.

    Runs take turns within one process and are spread over several processes, so that the interval of the ratio holds
    when the command is repeated. On an emulated device, where time means nothing, instructions are counted instead.
    """
    from edgeq.devices import load_profile
    from edgeq.devices.profiling import default_device, profile_artifact

    profile = load_profile(device or default_device(artifact, platform.machine()))
    result = profile_artifact(profile, artifact, against, runs=runs, seed=seed)
    if as_json:
        click.echo(json.dumps(_json(result), indent=2))
    else:
        _print(result, artifact.name, against.name if against else "", quiet)


def _json(result: "Profiling") -> dict[str, object]:
    def ops(profile: object) -> list[dict[str, object]] | None:
        return None if profile is None else asdict(profile)["ops"]  # type: ignore[call-overload]

    return {
        "device": asdict(result.device),
        "latency": asdict(result.latency) if result.latency else None,
        "instructions": asdict(result.instructions) if result.instructions else None,
        "reference_instructions": asdict(result.reference_instructions) if result.reference_instructions else None,
        "comparison": asdict(result.comparison) if result.comparison else None,
        "ops": ops(result.ops),
        "reference_ops": ops(result.reference_ops),
        "verdict": asdict(result.verdict) if result.verdict else None,
        "budgets": [asdict(budget) | {"kept": budget.kept} for budget in result.budgets],
        "hazards": [asdict(hazard) for hazard in result.hazards],
        "notes": list(result.notes),
    }


def _print(result: "Profiling", artifact: str, against: str, quiet: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edgeq.devices.hazards import summary

    console = Console(highlight=False)
    device = result.device
    features = ", ".join(device.cpu_features)
    console.print(f"{device.runtime} {device.version} on {device.cpu} ({features}), threads: {device.threads}")
    if result.latency:
        table = Table("", "median ms", "p90 ms", "start-up ms", "peak memory kB")
        if result.comparison:
            table.add_row(against, *_cells(result.comparison.reference))
        table.add_row(artifact, *_cells(result.latency))
        console.print(table)
    _print_instructions(console, result, artifact, against)
    if result.comparison:
        ratio = result.comparison.ratio
        console.print(f"ratio {ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] at {ratio.level:.0%}")
    if result.ops and not quiet:
        table = Table("op", "kind", "number", "ms", "share")
        for op, kind, number, milliseconds in result.ops.by_op()[:_ROWS]:
            share = milliseconds / (result.ops.total_ms or 1)
            table.add_row(escape(op), kind, str(number), f"{milliseconds:.4f}", f"{share:.1%}")
        console.print(table)
    for budget in result.budgets:
        verb = "keeps to" if budget.kept else "EXCEEDS"
        measured, limit = (f"{n:,.0f}" if n >= 1000 else f"{n:.4g}" for n in (budget.measured, budget.limit))
        console.print(f"{budget.name} {measured} {verb} the device's budget of {limit}")
    if result.verdict:
        console.print(escape(result.verdict.sentence), soft_wrap=True)
        if result.verdict.leave_in_float:
            console.print("slower than in float: " + escape(", ".join(result.verdict.leave_in_float)), soft_wrap=True)
    for line in (*summary(result.hazards), *result.notes):
        console.print(f"note: {escape(line)}", soft_wrap=True)


def _print_instructions(console: "Console", result: "Profiling", artifact: str, against: str) -> None:
    from rich.table import Table

    if result.instructions is None:
        return
    table = Table("", "million instructions", "lowest", "highest", "counted")
    for name, count in ((against, result.reference_instructions), (artifact, result.instructions)):
        if count is not None:
            numbers = (f"{value / 1e6:,.4f}" for value in (count.median, count.lowest, count.highest))
            table.add_row(name, *numbers, str(count.runs))
    console.print(table)
    console.print("Per inference, counted under emulation: repeatable, but not time.")


def _cells(latency: "Latency") -> tuple[str, ...]:
    return (
        f"{latency.median_ms:.4f}",
        f"{latency.p90_ms:.4f}",
        f"{latency.start_up_ms:.1f}",
        f"{latency.peak_memory_bytes / 1000:,.0f}",
    )
