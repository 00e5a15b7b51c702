"""The release folder: written whole, and checked file by file."""

import mmap
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import DataError, OutputError
from edgeq.release.atomic import whole_folder
from edgeq.release.hashing import sha256_of_file
from edgeq.release.junit import junit
from edgeq.release.lock import LOCK_NAME, SIGNATURE_NAME, lock_text, read_lock
from edgeq.release.outcome import Judgement
from edgeq.release.release import Release
from edgeq.release.report_html import report_html
from edgeq.release.report_json import read_report, report_json
from edgeq.release.signing import signature_problem
from edgeq.release.summary import summary


def write_bundle(
    folder: Path,
    release: Release,
    judgement: Judgement,
    files: Mapping[str, bytes | Path],
    inputs: Mapping[str, str],
) -> None:
    """Write the release folder: the artefacts, report.json, report.html, junit.xml, summary.md and edgeq.lock.

    Args:
        folder: where; an older release there is replaced at the end, in one step.
        release: what was built and measured.
        judgement: the gate's.
        files: name -> bytes of each artefact of the release, or the file that is to be copied.
        inputs: role -> SHA-256 of what was read, see `lock_text`.

    Raises:
        OutputError: it cannot be written, an artefact is missing, or a file holds a path of this computer.
    """
    absent = [artifact.name for artifact in release.artifacts if artifact.name not in files]
    if absent:
        raise OutputError(f"{folder}: the release lists {', '.join(absent)} and the files do not")
    records = {
        "report.json": report_json(release, judgement),
        "report.html": report_html(release, judgement).encode(),
        "junit.xml": junit(judgement, release.model),
        "summary.md": summary(release, judgement).encode(),
    }
    contents = {artifact.name: files[artifact.name] for artifact in release.artifacts} | records
    for name, data in contents.items():
        for trace in _traces(data):
            raise OutputError(
                f"{folder}: {name} would hold a path of this computer ({trace}): remove it from the model"
            )
    with whole_folder(folder) as temporary:
        for name, data in contents.items():
            if isinstance(data, Path):
                shutil.copyfile(data, temporary / name)
            else:
                (temporary / name).write_bytes(data)
        hashes = {name: sha256_of_file(temporary / name) for name in records}
        (temporary / LOCK_NAME).write_text(lock_text(release, inputs, hashes), encoding="utf-8")


def _traces(data: bytes | Path) -> list[str]:
    if isinstance(data, bytes):
        return local_traces(data)
    with data.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return local_traces(mapped)


def local_traces(data: bytes | mmap.mmap) -> list[str]:
    """Which of this computer's own folders (the home folder, the working folder) are named in the data."""
    own = []
    for folder in (Path.home(), Path.cwd()):
        if len(folder.parts) > 2:  # a folder right under the root may be named like a module
            own.append(f"{folder}/")
    return [path for path in dict.fromkeys(own) if data.find(path.encode()) >= 0]


def verify_bundle(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Check every file of a release against its lock.

    Returns:
        The lock, and one sentence for each problem; no sentence means that nothing was changed, added or removed.

    Raises:
        DataError: the lock itself is missing or was changed.
    """
    lock = read_lock(folder)
    try:
        artifacts = {name: str(value["sha256"]) for name, value in lock["recipe"]["artifacts"].items()}
        expected = artifacts | {str(name): str(value) for name, value in lock["records"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / LOCK_NAME}: not a whole lock file ({error})") from error
    problems = [problem for name, digest in sorted(expected.items()) if (problem := _problem(folder, name, digest))]
    known = {*expected, LOCK_NAME, SIGNATURE_NAME}
    problems += [
        f"{path.name}: is not part of the release" for path in sorted(folder.iterdir()) if path.name not in known
    ]
    problems += [problem for problem in [signature_problem(folder)] if problem]
    if not problems:
        problems += _disagreements(folder, artifacts)
    return lock, tuple(problems)


def _problem(folder: Path, name: str, digest: str) -> str:
    path = folder / name
    if Path(name).name != name:
        return f"{name}: a release holds no folders"
    if path.is_symlink() or not path.is_file():
        return f"{name}: is missing" if not path.is_symlink() else f"{name}: is a link, not the file itself"
    return "" if sha256_of_file(path) == digest else f"{name}: was changed after the release was written"


def _disagreements(folder: Path, artifacts: Mapping[str, str]) -> list[str]:
    release, _ = read_report(folder)
    reported = {artifact.name: artifact.sha256 for artifact in release.artifacts}
    return [] if reported == artifacts else ["report.json: speaks of other files than edgeq.lock"]
