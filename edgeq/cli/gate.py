"""``edgeq gate``: judge a release folder; exit code, JUnit XML, Markdown, annotations."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.config import Project
    from edgeq.release.outcome import Judgement
    from edgeq.release.release import Release


@click.command(short_help="PASS, FAIL or INCONCLUSIVE.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), help="The last release: its folder or its report.json.")
@click.option("--budget", "budgets", multiple=True, metavar="NAME=LIMIT", help="A limit; overrides edgeq.toml.")
@click.option("--config", type=click.Path(path_type=Path), help="Project file; default: edgeq.toml in this folder.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Also write the checks as JUnit XML.")
@click.option("--summary", "summary_file", type=click.Path(path_type=Path), help="Also write them as Markdown.")
@click.option("--annotations", is_flag=True, help="Print GitHub annotations; default: in a GitHub job.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Only the verdict.")
def command(folder: Path, baseline: Path | None, as_json: bool, quiet: bool, annotations: bool, **given: Any) -> int:
    """Judge the release in FOLDER against budgets and the last release.

    Exit codes: 0 pass, 1 fail, 2 the folder or an option is wrong, 3 inconclusive.
    """
    from edgeq.release.atomic import write_file
    from edgeq.release.junit import junit
    from edgeq.release.report_json import read_report
    from edgeq.release.summary import summary

    release, _ = read_report(folder)
    last = None if baseline is None else read_report(baseline)[0]
    judgement = _judge(release, last, folder if folder.is_dir() else folder.parent, given)
    if given["junit_file"] is not None:
        write_file(given["junit_file"], junit(judgement, release.model))
    if given["summary_file"] is not None:
        write_file(given["summary_file"], summary(release, judgement).encode())
    if as_json:
        click.echo(json.dumps(_as_json(judgement), indent=1, sort_keys=True))
    else:
        _say(judgement, quiet=quiet)
        if annotations or os.environ.get("GITHUB_ACTIONS") == "true":
            _annotate(judgement)
    return int(judgement.outcome.exit_code)


def _judge(release: "Release", last: "Release | None", folder: Path, given: dict[str, Any]) -> "Judgement":
    from edgeq.release.budgets import Budgets
    from edgeq.release.bundle import verify_bundle
    from edgeq.release.gate import gate
    from edgeq.release.outcome import Check, Judgement, Outcome

    project = _project(given["config"])
    general = Budgets() if project is None else project.budgets
    devices = {} if project is None else dict(project.device_budgets)
    flags = _limits(given["budgets"])
    judgement = gate(release, general, device_budgets=devices, overrides=flags, baseline=last, folder=folder)
    _, problems = verify_bundle(folder)
    tampered = tuple(Check("untouched", None, None, Outcome.FAIL, problem) for problem in problems)
    return Judgement((*tampered, *judgement.checks))


def _project(config: Path | None) -> "Project | None":
    from edgeq.cli.project import convert_keys, project_of
    from edgeq.config import read_project

    return project_of(Path.cwd()) if config is None else read_project(config, convert_keys())


def _limits(texts: tuple[str, ...]) -> dict[str, float | bool | None]:
    """NAME=LIMIT pairs; `off` switches a check off."""
    import difflib

    from edgeq.release.budgets import BUDGET_NAMES

    limits: dict[str, float | bool | None] = {}
    for text in texts:
        name, found, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in BUDGET_NAMES:
            near = difflib.get_close_matches(name, BUDGET_NAMES, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(BUDGET_NAMES)}"
            raise UsageError(f"--budget {text!r}: {name!r} is not a budget; {hint}")
        try:
            if value.strip() == "off" and name != "confidence":
                limits[name] = False if name == "delivered" else None
            elif name == "delivered" and value.strip() == "on":
                limits[name] = True
            else:
                limits[name] = float(value)
        except ValueError:
            raise UsageError(f"--budget {text!r}: write NAME=NUMBER or NAME=off") from None
        if not found or (name == "delivered" and value.strip() not in ("on", "off")):
            raise UsageError(f"--budget {text!r}: write NAME=NUMBER or NAME=off")
    return limits


def _say(judgement: "Judgement", *, quiet: bool) -> None:
    from edgeq.release.outcome import Outcome

    if not quiet:
        width = max((len(check.name) for check in judgement.checks), default=0)
        for check in judgement.checks:
            mark = {Outcome.PASS: "pass", Outcome.FAIL: "FAIL", Outcome.INCONCLUSIVE: "open"}[check.outcome]
            where = f"{check.device}: " if check.device else ""
            click.echo(f"{mark}  {check.name:<{width}}  {where}{check.reason}")
    click.echo(judgement.sentence)


def _annotate(judgement: "Judgement") -> None:
    """GitHub workflow commands: one annotation for each check that is not a pass."""
    from edgeq.release.outcome import Outcome

    for check in judgement.checks:
        if check.outcome is not Outcome.PASS:
            kind = "error" if check.outcome is Outcome.FAIL else "warning"
            title = _escaped(f"edgeq {check.name} {check.device}".strip()).replace(":", "%3A").replace(",", "%2C")
            click.echo(f"::{kind} title={title}::{_escaped(check.reason)}")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _as_json(judgement: "Judgement") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "outcome": judgement.outcome.value,
        "summary": judgement.sentence,
        "checks": [asdict(check) for check in judgement.checks],
    }
