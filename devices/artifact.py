"""An artefact as the device gets it: the model file, and the files of its constants beside it, which stay on disk.

ONNX keeps constants in files of their own where they do not fit into the 2 GiB of one, or where a tool prefers it. Such
files are never read whole here: a device on this machine is told where they lie, another one gets them in pieces.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from edgeq.errors import ModelError


@dataclass(frozen=True, eq=False)
class Artifact:
    """A model file with what belongs to it.

    Attributes:
        data: the file's bytes.
        folder: where the files beside it lie; None if there are none.
        beside: the names by which the model knows them, relative to the folder.
    """

    data: bytes
    folder: Path | None = None
    beside: tuple[str, ...] = ()

    @cached_property
    def data_sha256(self) -> str:
        """Of the model file alone."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def beside_sha256(self) -> Mapping[str, str]:
        """Of each file beside it, by name.

        Raises:
            ModelError: one cannot be read.
        """
        return {name: _sha256(self.path(name)) for name in self.beside}

    @cached_property
    def sha256(self) -> str:
        """Of all of it: the file's own where nothing lies beside it."""
        if not self.beside:
            return self.data_sha256
        whole = [self.data_sha256, *(f"{name} {digest}" for name, digest in self.beside_sha256.items())]
        return hashlib.sha256("\n".join(whole).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Of all of it."""
        return len(self.data) + sum(self.path(name).stat().st_size for name in self.beside)

    def path(self, name: str) -> Path:
        """Where a file beside it lies."""
        assert self.folder is not None
        return self.folder / name


def read_artifact(path: Path) -> Artifact:
    """A file with what lies beside it.

    Raises:
        ModelError: it, or a file that it refers to, cannot be read, or lies outside of its folder.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    # The key under which ONNX names the file beside it; without it there is nothing to look for.
    if path.suffix.lower() != ".onnx" or b"location" not in data:
        return Artifact(data)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        # No ONNX model: the runtime says so in its own words.
        return Artifact(data)
    names = tuple(dict.fromkeys(location for location in map(_location, model.graph.initializer) if location))
    for name in names:
        _check(path, name)
    return Artifact(data, path.parent, names) if names else Artifact(data)


def _location(tensor: Any) -> str:
    """The file that holds a tensor's data; "" if the model itself does."""
    import onnx

    if not onnx.external_data_helper.uses_external_data(tensor):
        return ""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def _check(path: Path, name: str) -> None:
    """Refuse a file that is not there, or not in the model's folder."""
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    folder = path.resolve().parent
    try:
        where = (folder / name).resolve()
        if inside and where.is_relative_to(folder) and where.is_file():
            return
    except (OSError, ValueError):
        pass
    why = "is missing" if inside else "lies outside of the model's folder"
    raise ModelError(f"{path}: its external data cannot be read: {' '.join(name.split())[:200]} {why}")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
