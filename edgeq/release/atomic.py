"""A folder or file is written whole or not at all.

A folder is built beside its place under a temporary name, every file is flushed to disk, and one rename makes it
visible. Where a folder of that name is already there the two are exchanged in one step where the system can
(Linux, renameat2 with RENAME_EXCHANGE), otherwise by two renames that a later run completes. A killed run leaves only
temporary names, which the next one that writes to the same place removes.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeq.errors import OutputError

if sys.platform != "win32":
    import fcntl

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; make it the destination when the block ends without an error.

    Raises:
        OutputError: the place cannot be written, the disk is full, or something other than a release lies there.
    """
    destination = destination.resolve()
    with output_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        finish_interrupted(destination)
        _refuse_foreign(destination)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(destination, "new"), dir=destination.parent))
        temporary.chmod(0o777 & ~_umask())
    try:
        with _claimed(temporary):
            with output_errors(destination, only_full=True):
                yield temporary
            with output_errors(destination):
                _flush_tree(temporary)
                _put(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a folder for what is needed only while the block runs; what killed runs left of that name is removed.

    Raises:
        OutputError: the place cannot be written.
    """
    for left in parent.glob(f"{name}-*"):
        with contextlib.suppress(OSError), _claimed(left):  # a run that is still alive holds its claim
            shutil.rmtree(left, ignore_errors=True)
    with output_errors(parent):
        temporary = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        with _claimed(temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_destination(destination: Path) -> None:
    """Refuse before any work what :func:`whole_folder` would refuse at the end.

    Raises:
        OutputError: something other than a release lies there.
    """
    with output_errors(destination):
        _refuse_foreign(destination.resolve())


@contextlib.contextmanager
def output_errors(destination: Path, *, only_full: bool = False) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear line; with only_full, those that mean a full disk.

    Raises:
        OutputError: the system refused.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"{destination}: the disk is full; free some space and run again") from error
        if only_full:
            raise
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(f"{destination}: no permission to write there; choose another folder with -o") from error
        raise OutputError(f"{destination}: cannot be written: {error.strerror or error}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write one file whole: to a temporary name beside it, flushed, then renamed.

    Raises:
        OutputError: it cannot be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)


def finish_interrupted(destination: Path) -> None:
    """Clean up after a run that was killed: bring back an old folder that was set aside, remove what is temporary."""
    for aside in destination.parent.glob(_escape(_prefix(destination, "old")) + "*"):
        if not destination.exists():
            aside.rename(destination)
        else:
            shutil.rmtree(aside, ignore_errors=True)
    for left in destination.parent.glob(_escape(_prefix(destination, "new")) + "*"):
        with contextlib.suppress(OSError), _claimed(left):  # a run that is still alive holds its claim
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system gives back when the process dies; OSError if another process has it."""
    if sys.platform == "win32":  # no flock there: two runs into one folder at the same time are not kept apart
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _refuse_foreign(destination: Path) -> None:
    if destination.exists() and not destination.is_dir():
        raise OutputError(f"{destination}: is a file; name a folder for the release")
    if destination.is_dir() and any(destination.iterdir()) and not (destination / "edgeq.lock").is_file():
        raise OutputError(f"{destination}: holds files that are not a release; choose an empty folder with -o")


def _put(temporary: Path, destination: Path) -> None:
    if not destination.exists():
        temporary.rename(destination)
    elif not _exchange(temporary, destination):
        aside = Path(tempfile.mkdtemp(prefix=_prefix(destination, "old"), dir=destination.parent))
        aside.rmdir()
        destination.rename(aside)
        temporary.rename(destination)
        shutil.rmtree(aside, ignore_errors=True)
    _flush_folder(destination.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


def _flush_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prefix(destination: Path, kind: str) -> str:
    return f".{destination.name}.edgeq-{kind}-"


def _escape(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
