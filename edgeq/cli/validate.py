"""``edgeq validate``: metric, agreement and parity of an artefact on real runtimes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgeq.pipeline.any_artifact import ArtifactValidation

_SHARES = ("top1", "top5", "agreement")


@click.command(short_help="Validate an artefact of any tool.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The float model: .onnx, .pt2 or package.module:factory.")
@click.option("--eval", "evaluation", required=True, help="Samples: .npz, .npy, images, or package.module:callable.")
@click.option("--device", "devices", multiple=True, help="Device profile, by name or .toml file; may be repeated.")
@click.option("--metric", help="top1, top5, agreement, mse, cosine, perplexity, or package.module:callable.")
@click.option("--eval-samples", type=int, help="Evaluate on at most so many.")
@click.option("--seed", default=0, show_default=True, help="Of the draw of samples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Only the numbers.")
def command(
    artifact: Path,
    model: str,
    evaluation: str,
    devices: tuple[str, ...],
    metric: str | None,
    eval_samples: int | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run ARTIFACT (.onnx or .tflite, made by any tool) and its float MODEL over samples, on each device."""
    from edgeq.errors import ExitCode, ModelError
    from edgeq.pipeline.any_artifact import validate_artifact

    if not artifact.exists():
        raise ModelError(f"{artifact}: no such file")
    result = validate_artifact(artifact, model, evaluation, devices, metric=metric, samples=eval_samples, seed=seed)
    if as_json:
        click.echo(json.dumps(_json(result), indent=2))
    else:
        _print(result, quiet)
    return int(ExitCode.DEVICE if result.failures else ExitCode.PASSED)


def _json(result: "ArtifactValidation") -> dict[str, Any]:
    return {
        "metric": result.reference.metric,
        "float": result.reference.value,
        "devices": {
            each.device.profile: {
                "device": asdict(each.device),
                "metric": each.deployed.value,
                "agreement": asdict(each.agreement) if each.agreement else None,
                "parity": asdict(each.parity) if each.parity else None,
            }
            for each in result.results
        },
        "failures": dict(result.failures),
    }


def _print(result: "ArtifactValidation", quiet: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    def shown(value: float) -> str:
        return f"{value:.2%}" if result.reference.metric in _SHARES else f"{value:.4g}"

    console = Console(highlight=False)
    samples = len(result.reference.scores)
    console.print(f"{result.reference.metric} on {samples:,} samples; the float model: {shown(result.reference.value)}")
    table = Table()
    table.add_column("device", no_wrap=True)
    for heading in (result.reference.metric, "agreement", "outputs ≠", "steps"):
        table.add_column(heading, justify="right")
    for each in result.results:
        agreement = "" if each.agreement is None else f"{each.agreement.estimate:.2%}"
        differ = ("", "") if each.parity is None else (f"{each.parity.unequal:,} of {each.parity.compared:,}",
                                                       str(max(each.parity.histogram)))  # fmt: skip
        table.add_row(each.device.profile, shown(each.deployed.value), agreement, *differ)
    console.print(table)
    if len(result.results) > 1 and not quiet:
        console.print(
            f"Outputs are compared with those of {result.results[0].device.profile}; steps: the largest difference."
        )
    for profile, reason in result.failures.items():
        told = reason if reason.startswith(profile) else f"{profile}: {reason}"
        console.print(f"not used: {told}", soft_wrap=True, markup=False)
