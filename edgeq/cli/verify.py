"""``edgeq verify``: a release's hashes, its signature, and whether the same inputs give the same bytes."""

import json
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from edgeq.errors import UsageError


@click.command(short_help="Check hashes; with --rebuild, bytes.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rebuild", is_flag=True, help="Make the release again and compare; needs --model and --data.")
@click.option("--model", help="For --rebuild: the model, as it was given to convert.")
@click.option("--data", help="For --rebuild: the samples.")
@click.option("--eval", "evaluation", help="For --rebuild: the evaluation samples.")
@click.option("--weights", type=click.Path(path_type=Path), help="For --rebuild: the weights of a factory.")
@click.option("--device", "devices", multiple=True, help="For --rebuild: a profile that lies in a file.")
@click.option("--sign", "key", type=click.Path(path_type=Path), help="Sign the release with this SSH key.")
@click.option("--signers", type=click.Path(path_type=Path), help="Check the signature against these allowed signers.")
@click.option("--signer", help="Who must have signed: a name in the file of --signers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(folder: Path, rebuild: bool, key: Path | None, as_json: bool, **given: Any) -> int:
    """Check that no file of the release in FOLDER was changed, added or removed since it was written.

    Exit codes: 0 all is as it was, 1 something was changed or does not come out the same, 2 it is no release.
    """
    from edgeq.errors import DataError, ExitCode
    from edgeq.release.bundle import verify_bundle
    from edgeq.release.signing import sign, verify_signature

    lock, found = verify_bundle(folder)
    problems = list(found)
    signed = ""
    if given["signers"] is not None or given["signer"] is not None:
        if given["signers"] is None or given["signer"] is None:
            raise UsageError("--signers FILE and --signer NAME go together")
        try:
            verify_signature(folder, given["signers"], given["signer"])
            signed = given["signer"]
        except DataError as error:
            problems.append(str(error))
    if rebuild and not problems:
        problems += _rebuild(lock, given)
    if key is not None and not problems:
        sign(folder, key)
    content = {"recipe_digest": lock["recipe_digest"], "problems": problems, "signed_by": signed, "rebuilt": rebuild}
    click.echo(json.dumps(content, indent=1) if as_json else _text(content, lock))
    return int(ExitCode.FAILED if problems else ExitCode.PASSED)


def _text(content: dict[str, Any], lock: dict[str, Any]) -> str:
    lines = [f"changed: {problem}" for problem in content["problems"]]
    if not lines:
        lines = [f"{name}  sha256 {value['sha256']}" for name, value in sorted(lock["recipe"]["artifacts"].items())]
        lines.append("all files are as they were written" + (", and come out the same" if content["rebuilt"] else ""))
    if content["signed_by"]:
        lines.append(f"signed by {content['signed_by']}")
    return "\n".join([*lines, f"recipe {content['recipe_digest']}"])


def _rebuild(lock: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What does not come out the same when the recipe is followed again."""
    from edgeq.pipeline import convert
    from edgeq.release.lock import read_lock

    if given["model"] is None or given["data"] is None:
        raise UsageError("--rebuild: give the inputs of the release with --model and --data (and --eval)")
    with tempfile.TemporaryDirectory(prefix="edgeq-rebuild-") as place:
        output = Path(place) / "release"
        convert(_options(lock["recipe"]["options"], given, output))
        made = read_lock(output)
    again, elsewhere = made["recipe"], _cpus(made) != _cpus(lock)
    problems = []
    for part, told in (("inputs", "another input than"), ("versions", "another version than"), ("artifacts", "")):
        for name in sorted({*lock["recipe"][part], *again[part]}):
            before, now = lock["recipe"][part].get(name), again[part].get(name)
            if before != now and told:
                problems.append(f"{name}: {told} the release's ({now} instead of {before})")
            elif before != now:
                why = "; the release was made on another CPU, which may sum in another order" if elsewhere else ""
                problems.append(f"{name}: does not come out the same{why}")
    return problems


def _cpus(lock: dict[str, Any]) -> set[tuple[str, ...]]:
    """The CPU features of the devices that a release was measured on."""
    return {tuple(device["cpu_features"]) for device in lock["measured_on"].values()}


def _options(recorded: dict[str, Any], given: dict[str, Any], output: Path) -> Any:
    from edgeq.calibration.preprocessing import Preprocessing
    from edgeq.pipeline.options import Options
    from edgeq.plan.bits import FLOAT, Bits
    from edgeq.release.budgets import Budgets

    def bits(text: str) -> Bits:
        return FLOAT if text == str(FLOAT) else Bits.parse(text)

    values = {name: _tuples(value) for name, value in recorded.items()}
    known = {field.name for field in fields(Options)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"--rebuild: this edgeq does not know the option {unknown[0]!r}; use the one that wrote it")
    values["bits"] = bits(recorded["bits"])
    values["overrides"] = tuple((pattern, bits(text)) for pattern, text in recorded["overrides"])
    values["budgets"] = Budgets(**recorded["budgets"])
    if recorded["preprocessing"] is not None:
        values["preprocessing"] = Preprocessing(**_tuples_of(recorded["preprocessing"]))
    if given["devices"]:
        values["devices"] = given["devices"]
    inputs = {name: given[name] for name in ("model", "data", "evaluation", "weights")}
    # What only measures changes no file.
    return Options(**{**values, **inputs, "output": output, "latency_runs": 0, "diagnose": False})


def _tuples(value: Any) -> Any:
    """A value read from JSON as the options hold it: lists as tuples."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return _tuples_of(value) if isinstance(value, dict) else value


def _tuples_of(value: dict[str, Any]) -> dict[str, Any]:
    return {name: _tuples(item) for name, item in value.items()}
