"""``edgeq convert``: options, progress and the final table; the work is ``edgeq.pipeline``."""

import re
from pathlib import Path
from typing import Any

import click

from edgeq.cli.project import ProjectCommand
from edgeq.errors import UsageError


def _shape(text: str) -> tuple[int, ...]:
    try:
        dims = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not a shape; write for example 1,3,224,224") from None
    if not dims or min(dims) < 1:
        raise UsageError(f"{text!r} is not a shape; dimensions are positive")
    return dims


def _type(text: str) -> str:
    found = text.partition(":")[2] or "float32"
    if found not in ("float32", "int64", "int32", "bool"):
        raise UsageError(f"--input-shape {text}: the type is float32, int64, int32 or bool")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number") from None


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of numbers; write for example 0.485,0.456,0.406") from None


def _size(text: str | None, bits: str) -> float | None:
    if text is None:
        return None
    if bits != "auto":
        raise UsageError(f"--max-size goes with --bits auto, not with {bits}")
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(kB|MB|B|)", text.strip())
    if found is None:
        raise UsageError(f"--max-size {text!r}: write for example 60kB or 1.5MB")
    return float(found[1]) * {"kB": 1e3, "MB": 1e6}.get(found[2], 1.0)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key or not value:
        raise UsageError(f"{option} {text!r}: write NAME=VALUE")
    return key, value


def output_options(function: Any) -> Any:
    """--json, --quiet and --verbose, which every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
        click.option("-q", "--quiet", is_flag=True, help="No progress: only the result."),
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
    ):
        function = option(function)
    return function


@click.command(short_help="Quantize, export, validate.", cls=ProjectCommand)
@click.argument("model")
@click.option("--data", required=True, help="Samples: .npz, .npy, a folder of images, or package.module:callable.")
@click.option("--eval", "evaluation", help="Samples to evaluate on; default: a part of --data that is kept apart.")
@click.option("--device", "devices", multiple=True, help="Device profile, by name or .toml file; may be repeated.")
@click.option(
    "--bits",
    default="w8a8",
    show_default=True,
    help="Number format: w8a8, w4a8, w4 (weight-only), w4b32 (in blocks), auto ...",
)
@click.option("--max-size", metavar="SIZE", help="With --bits auto: bytes that the weights may take, packed: 60kB.")
@click.option("--bits-for", multiple=True, metavar="GLOB=BITS", help="Another format for the layers that match.")
@click.option("--float", "floats", multiple=True, metavar="GLOB", help="Leave the layers that match in float.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict (.pt or .safetensors) for a factory.")
@click.option(
    "--input-shape", multiple=True, metavar="N,C,H,W[:TYPE]", help="Example input of a factory; once for each."
)
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=N,C,H,W", help="Fix an input's unknown dimensions.")
@click.option("--fix", multiple=True, metavar="INPUT=NUMBER", help="Make an input a constant (a sampling rate).")
@click.option("--resize", type=int, help="Images: shorter side in pixels.")
@click.option("--crop", type=int, help="Images: central square in pixels.")
@click.option("--mean", help="Images: mean by channel, of pixels in [0, 1] or [0, 255].")
@click.option("--std", help="Images: standard deviation by channel.")
@click.option("--layout", type=click.Choice(["nchw", "nhwc"]), help="Images: what the model reads.")
@click.option("--samples", default=512, show_default=True, help="How many samples to calibrate with.")
@click.option("--eval-samples", type=int, help="Evaluate on at most so many.")
@click.option("--observer", default="auto", show_default=True, help="auto, min-max, percentile, mse or entropy.")
@click.option(
    "--method", default="auto", show_default=True, help="nearest, bias, statistics, gptq, descent, adaround ..."
)
@click.option("--recover-budget", metavar="TIME", help="Recover accuracy by short training: 2min, 500steps ...")
@click.option("--diagnose/--no-diagnose", default=None, help="Default: when a check of quality does not pass.")
@click.option("--metric", help="top1, top5, agreement, mse, cosine, perplexity, or package.module:callable.")
@click.option(
    "--io", type=click.Choice(["int8", "float32"]), default="int8", show_default=True, help="I/O of the TFLite."
)
@click.option(
    "--input-layout",
    type=click.Choice(["auto", "nchw", "nhwc"]),
    default="auto",
    show_default=True,
    help="How the files take images; auto: the TFLite nhwc, the ONNX as the model.",
)
@click.option("--max-drop", default=0.01, show_default=True, help="Tolerated drop of the metric (0.01 is one point).")
@click.option("--latency-runs", default=200, show_default=True, help="Timed pairs on each device; 0 leaves it out.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("release"), show_default=True)
@output_options
def command(model: str, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> int:
    """Quantize MODEL, export it as integer ONNX and TFLite, and validate both on the target runtimes.

    MODEL is a .onnx or .pt2 file, or package.module:factory. The release folder is written whole, at the end; an
    interrupted run goes on where it stopped.
    """
    options = _with_project(_options(model, given))
    return run(options, as_json=as_json, quiet=quiet, verbose=verbose)


def _with_project(options: Any) -> Any:
    """The options with the budgets of edgeq.toml; a --max-drop that was given overrides them."""
    from dataclasses import replace

    context = click.get_current_context()
    if context.obj is None:
        return options
    budgets, devices = context.obj.budgets, context.obj.device_budgets
    if context.get_parameter_source("max_drop") is not click.core.ParameterSource.DEFAULT:
        budgets = replace(budgets, accuracy_drop=options.budgets.accuracy_drop)
        devices = {
            profile: {name: limit for name, limit in limits.items() if name != "accuracy_drop"}
            for profile, limits in devices.items()
        }
    return replace(options, budgets=budgets, device_budgets=devices)


def run(options: Any, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Run the pipeline with progress, print its result, and return the exit code."""
    from edgeq.cli.show import LiveReporter, print_conversion
    from edgeq.errors import ExitCode
    from edgeq.pipeline import convert
    from edgeq.progress import SILENT

    if quiet or as_json:
        result = convert(options, SILENT)
    else:
        with LiveReporter() as reporter:
            result = convert(options, reporter)
    if as_json:
        click.echo((result.folder / "report.json").read_text(encoding="utf-8"), nl=False)
    else:
        print_conversion(result, verbose=verbose)
    return int(ExitCode.DEVICE if result.failures else result.judgement.outcome.exit_code)


def _check_counts(given: dict[str, Any]) -> None:
    if given["samples"] < 1:
        raise UsageError(f"--samples {given['samples']}: at least 1 is needed, 512 are usual")
    if given["eval_samples"] is not None and given["eval_samples"] < 1:
        raise UsageError(f"--eval-samples {given['eval_samples']}: at least 1 is needed, 1,000 are usual")
    if given["latency_runs"] < 0:
        raise UsageError(f"--latency-runs {given['latency_runs']}: give a number of timed pairs, or 0 to leave it out")


def _options(model: str, given: dict[str, Any]) -> Any:
    from edgeq.calibration.preprocessing import Preprocessing
    from edgeq.pipeline.options import Options
    from edgeq.plan.bits import FLOAT, Bits
    from edgeq.release.budgets import Budgets

    overrides = [(glob, Bits.parse(bits)) for glob, bits in (_pair(t, "--bits-for") for t in given["bits_for"])]
    overrides += [(glob, FLOAT) for glob in given["floats"]]
    mean, std = _numbers(given["mean"]), _numbers(given["std"])
    images = {"resize": given["resize"], "crop": given["crop"], "mean": mean, "std": std, "layout": given["layout"]}
    chosen = {key: value for key, value in images.items() if value is not None}
    _check_counts(given)
    defaults = Options(model=model, data=given["data"], output=given["output"])
    return Options(
        model=model,
        data=given["data"],
        output=given["output"],
        evaluation=given["evaluation"],
        weights=given["weights"],
        input_shapes=tuple(_shape(text.partition(":")[0]) for text in given["input_shape"]),
        input_types=tuple(_type(text) for text in given["input_shape"]),
        shapes={key: _shape(value) for key, value in (_pair(text, "--shape") for text in given["shapes"])},
        constants={key: _number(value) for key, value in (_pair(text, "--fix") for text in given["fix"])},
        preprocessing=Preprocessing.from_options(**chosen) if chosen else None,
        samples=given["samples"],
        evaluation_samples=given["eval_samples"],
        bits=Bits(8, 8) if given["bits"] == "auto" else Bits.parse(given["bits"]),
        auto_bits=given["bits"] == "auto",
        max_size=_size(given["max_size"], given["bits"]),
        overrides=tuple(overrides),
        observer=given["observer"],
        method=given["method"],
        devices=given["devices"] or defaults.devices,
        recover_budget=given["recover_budget"],
        diagnose=given["diagnose"],
        metric=given["metric"],
        io=given["io"],
        input_layout=given["input_layout"],
        latency_runs=given["latency_runs"],
        budgets=Budgets(accuracy_drop=given["max_drop"]),
        seed=given["seed"],
    )
