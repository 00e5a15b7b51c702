"""``edgeq report``: a release as one HTML page, alone or beside another one."""

from pathlib import Path

import click


@click.command(short_help="One self-contained HTML page.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="Another release, shown side by side.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Default: <release>-report.html beside the folder."
)
def command(folder: Path, against: Path | None, output: Path | None) -> int:
    """Write the release in FOLDER as one HTML page that needs no network.

    FOLDER is a release folder or a report.json. A release folder is locked, so the page is written beside it.
    """
    from edgeq.errors import ExitCode, UsageError
    from edgeq.release.atomic import write_file
    from edgeq.release.report_html import report_html
    from edgeq.release.report_json import read_report

    release, judgement = read_report(folder)
    other = None if against is None else read_report(against)
    place = folder.resolve()
    place = place if place.is_dir() else place.parent
    target = (output or place.parent / f"{place.name}-report.html").resolve()
    if target.parent == place and (place / "edgeq.lock").exists():
        raise UsageError(f"{target}: lies in the release folder, which is locked; write it elsewhere with -o")
    write_file(target, report_html(release, judgement, against=other).encode())
    click.echo(str(target))
    return int(ExitCode.PASSED)
