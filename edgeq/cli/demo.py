"""``edgeq demo``: the whole pipeline on the model and data inside the package."""

from pathlib import Path

import click

from edgeq.cli.convert import output_options, run


@click.command(short_help="The pipeline on a small model inside the package.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo-release"), show_default=True)
@click.option("--bits", default="w8a8", show_default=True, help="Number format.")
@output_options
def command(output: Path, bits: str, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Run edgeq convert on a small convolutional network for handwritten digits: no file, no network needed."""
    from edgeq.demo import EVALUATION, MODEL, TRAIN
    from edgeq.pipeline.options import Options
    from edgeq.plan.bits import Bits
    from edgeq.release.budgets import Budgets

    options = Options(
        model=str(MODEL),
        data=str(TRAIN),
        evaluation=str(EVALUATION),
        output=output,
        bits=Bits.parse(bits),
        budgets=Budgets(accuracy_drop=0.02),
    )
    return run(options, as_json=as_json, quiet=quiet, verbose=verbose)
