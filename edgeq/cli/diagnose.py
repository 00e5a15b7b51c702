"""``edgeq diagnose``: why a quantized model got worse, who is to blame, and what will cure it; see ``edgeq.basin``."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from edgeq.cli.convert import _number, _numbers, _pair, _shape, _type, output_options
from edgeq.errors import ExitCode, UsageError


@click.command(short_help="Why accuracy was lost, and the cure.")
@click.argument("model")
@click.option("--data", required=True, help="Samples without labels; labels, where there are any, are only reported.")
@click.option("--candidate", type=click.Path(path_type=Path), help="A quantized .onnx of this model, from any tool.")
@click.option("--bits", default="w8a8", show_default=True, help="Number format to diagnose: w8a8, w4a8, w4 ...")
@click.option("--bits-for", multiple=True, metavar="GLOB=BITS", help="Another format for the layers that match.")
@click.option("--float", "floats", multiple=True, metavar="GLOB", help="Leave the layers that match in float.")
@click.option("--per-tensor", is_flag=True, help="One scale for a weight instead of one for each channel.")
@click.option(
    "--task", type=click.Choice(["classes", "tokens", "values"]), help="What the outputs are; default: guess."
)
@click.option("--samples", type=int, help="Probe samples, and as many others to calibrate; default: by model size.")
@click.option("--tolerated", default=0.01, show_default=True, help="Share of the decisions that may be lost.")
@click.option("--trial/--no-trial", default=True, show_default=True, help="Try better rounding where it may help.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Write the pictures (SVG) into this folder.")
@click.option("--weights", type=click.Path(path_type=Path), help="State dict (.pt or .safetensors) for a factory.")
@click.option("--input-shape", multiple=True, metavar="N,C,H,W[:TYPE]", help="Example input of a factory.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=N,C,H,W", help="Fix an input's unknown dimensions.")
@click.option("--fix", multiple=True, metavar="INPUT=NUMBER", help="Make an input a constant (a sampling rate).")
@click.option("--resize", type=int, help="Images: shorter side in pixels.")
@click.option("--crop", type=int, help="Images: central square in pixels.")
@click.option("--mean", help="Images: mean by channel.")
@click.option("--std", help="Images: standard deviation by channel.")
@click.option("--layout", type=click.Choice(["nchw", "nhwc"]), help="Images: what the model reads.")
@click.option("--batch", default=32, show_default=True, help="Samples in a pass; bounds the memory.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@output_options
def command(model: str, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> int:
    """Say why the quantized MODEL got worse, which layers are to blame, and what will cure it.

    MODEL is the float model: a .onnx or .pt2 file, or package.module:factory. Without --candidate it is quantized to
    --bits by rounding to nearest; with it, that file is diagnosed.
    """
    from edgeq.basin.report import lines, to_json
    from edgeq.cli.diagnosis import diagnose_files

    found = diagnose_files(_options(model, given), say=_say(quiet or as_json))
    if as_json:
        click.echo(json.dumps(to_json(found.diagnosis, found.remedies), allow_nan=False))
    else:
        for line in lines(found.diagnosis, found.remedies, most=10**6 if verbose else 8):
            click.echo(line)
        for path in found.pictures:
            click.echo(f"picture {path}")
    return int(ExitCode.PASSED)


def _say(silent: bool) -> Any:
    def say(line: str) -> None:
        if not silent:
            click.echo(line, err=True)

    return say


def _options(model: str, given: dict[str, Any]) -> Any:
    from edgeq.calibration.preprocessing import Preprocessing
    from edgeq.cli.diagnosis import Request
    from edgeq.pipeline.options import Options as Source
    from edgeq.plan.bits import FLOAT, Bits

    if given["samples"] is not None and given["samples"] < 8:
        raise UsageError(f"--samples {given['samples']}: at least 8 are needed, 256 are usual")
    overrides = [(glob, Bits.parse(bits)) for glob, bits in (_pair(t, "--bits-for") for t in given["bits_for"])]
    images = {
        "resize": given["resize"],
        "crop": given["crop"],
        "mean": _numbers(given["mean"]),
        "std": _numbers(given["std"]),
        "layout": given["layout"],
    }
    chosen = {key: value for key, value in images.items() if value is not None}
    source = Source(
        model=model,
        data=given["data"],
        output=Path(),
        weights=given["weights"],
        input_shapes=tuple(_shape(text.partition(":")[0]) for text in given["input_shape"]),
        input_types=tuple(_type(text) for text in given["input_shape"]),
        shapes={key: _shape(value) for key, value in (_pair(text, "--shape") for text in given["shapes"])},
        constants={key: _number(value) for key, value in (_pair(text, "--fix") for text in given["fix"])},
        preprocessing=Preprocessing.from_options(**chosen) if chosen else None,
        bits=Bits.parse(given["bits"]),
        overrides=(*overrides, *((glob, FLOAT) for glob in given["floats"])),
        seed=given["seed"],
    )
    return Request(
        source=source,
        command=_convert(model, given),
        candidate=given["candidate"],
        per_channel=not given["per_tensor"],
        task=given["task"],
        samples=given["samples"],
        tolerated=given["tolerated"],
        trial=given["trial"],
        pictures=given["pictures"],
        batch=given["batch"],
    )


#: Flags that ``edgeq convert`` shares with this command, beside the number format.
_SHARED = ("weights", "input_shape", "shapes", "fix", "resize", "crop", "mean", "std", "layout", "bits_for", "floats")
_FLAGS = {"shapes": "--shape", "floats": "--float"}


def _convert(model: str, given: dict[str, Any]) -> str:
    """The command that converts the same model with the same samples, without its number format."""
    words = ["edgeq", "convert", model, "--data", given["data"]]
    for key in _SHARED:
        values = given[key] if isinstance(given[key], tuple) else (given[key],)
        for value in values:
            if value is not None:
                words += [_FLAGS.get(key, f"--{key.replace('_', '-')}"), str(value)]
    return shlex.join(words)
