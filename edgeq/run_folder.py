"""The run folder: each stage's result under the hash of its inputs, so that a run goes on where it was interrupted.

A result is written to a temporary name and renamed; it carries its own digest, so a damaged one is computed again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import edgeq
from edgeq.release.atomic import output_errors, write_file

_DIGEST = hashlib.sha256().digest_size


class RunFolder:
    """Results of stages, by content; a context that leaves no empty folder behind where no stage got done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        """Make the folder: what cannot be written is refused before any work.

        Raises:
            OutputError: the folder cannot be made.
        """
        self._made = _absent(self.path)
        with output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._made:
            with contextlib.suppress(OSError):  # it is not empty: a stage got done, or others use it
                path.rmdir()

    def place(self, name: str, key: Mapping[str, Any]) -> Path:
        """Where the stage's result lies; what it keeps on its way has this name and a suffix, and goes when it is done.

        Args:
            name: of the stage.
            key: everything that the result depends on (JSON values).
        """
        digest = hashlib.sha256(json.dumps([code_version(), name, key], sort_keys=True).encode()).hexdigest()
        return self.path / f"{name}-{digest[:20]}"

    def stage(self, name: str, key: Mapping[str, Any], compute: Callable[[], bytes]) -> bytes:
        """The stage's stored result, or a new one.

        Args:
            name: of the stage.
            key: everything that the result depends on (JSON values).
            compute: makes the result.

        Raises:
            OutputError: the result cannot be written.
        """
        path = self.place(name, key)
        stored = _read(path)
        if stored is not None:
            return stored
        result = compute()
        write_file(path, hashlib.sha256(result).digest() + result)
        for kept in self.path.glob(f"{path.name}.*"):
            kept.unlink(missing_ok=True)
        return result


def _absent(path: Path) -> list[Path]:
    """The folders that making this one would make, innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[_DIGEST:]
    return body if len(data) >= _DIGEST and hashlib.sha256(body).digest() == data[:_DIGEST] else None


@cache
def code_version() -> str:
    """A digest of edgeq's own code: results of another version are not reused."""
    root = Path(edgeq.__file__).parent
    digest = hashlib.sha256()
    for folder, names, files in os.walk(root, followlinks=True):
        names[:] = sorted(n for n in names if n != "__pycache__")
        for file in sorted(f for f in files if f.endswith((".py", ".toml"))):
            path = Path(folder) / file
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
