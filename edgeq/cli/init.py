"""``edgeq init``: a commented edgeq.toml."""

from pathlib import Path

import click


@click.command(short_help="Write a commented edgeq.toml.")
@click.argument("model")
@click.option("--data", required=True, help="Samples to calibrate with.")
@click.option("--eval", "evaluation", help="Samples to evaluate on.")
@click.option("--bits", help="Number format; default w8a8.")
@click.option("--force", is_flag=True, help="Replace an edgeq.toml that is there.")
def command(model: str, data: str, evaluation: str | None, bits: str | None, force: bool) -> int:
    """Write edgeq.toml into this folder for MODEL and its data, with every key explained.

    Afterwards `edgeq convert` alone does the rest.
    """
    from edgeq.cli.project import convert_keys
    from edgeq.config import PROJECT_NAME, commented_project, read_project
    from edgeq.errors import ExitCode, UsageError
    from edgeq.release.atomic import write_file

    for what in (model, data, evaluation):
        if what is not None and ":" not in what and not Path(what).exists():
            raise UsageError(f"{what}: there is no such file or folder")
    path, keys = Path(PROJECT_NAME), convert_keys()
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; change it, or replace it with --force")
    values = {"model": model, "data": data, "eval": evaluation, "bits": bits}
    text = commented_project({name: value for name, value in values.items() if value is not None}, keys)
    write_file(path, text.encode())
    read_project(path, keys)
    click.echo(f"wrote {path}; run `edgeq convert`")
    return int(ExitCode.PASSED)
