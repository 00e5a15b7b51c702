"""Things that take long to make are made once, under the user's cache folder, each whole or not at all."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeq.errors import DeviceError

#: Longest that one step of making something (a download, an unpacking) may take.
_STEP_S = 600.0


def cache_folder() -> Path:
    """``$EDGEQ_CACHE``, else ``$XDG_CACHE_HOME/edgeq``, else ``~/.cache/edgeq``."""
    if chosen := os.environ.get("EDGEQ_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeq"


def made_once(kind: str, ingredients: Sequence[str], make: Callable[[Path], None]) -> Path:
    """The folder that holds what ``make`` makes of the ingredients.

    Args:
        kind: the folder's first name part.
        ingredients: everything that the result depends on.
        make: fills an empty folder; the folder is renamed afterwards, so the result must not hold its own path.

    Raises:
        DeviceError: it cannot be made; nothing is left behind.
    """
    digest = hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{kind}-{digest}"
    if folder.exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=folder.parent))
    except OSError as error:
        raise DeviceError(
            f"cannot write to the cache folder {cache_folder()}: {error.strerror}; set EDGEQ_CACHE"
        ) from None
    try:
        make(new)
        try:
            new.rename(folder)
        except OSError:
            # Another process was faster; its result is the same.
            if not folder.exists():
                raise
    except OSError as error:
        raise DeviceError(f"cannot make {folder.name} in the cache folder: {error.strerror or error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def step(what: str, command: Sequence[str], *, advice: str, folder: Path | None = None) -> None:
    """Run one command of the making.

    Raises:
        DeviceError: it fails; the message ends with the advice.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_STEP_S, check=False, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"no end in {_STEP_S:g} s" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise DeviceError(f"cannot {what}: {command[0]}: {reason}; {advice}") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "e:"))] or lines or ["no message"]
        raise DeviceError(f"cannot {what}: {errors[-1][:300]}; {advice}")
