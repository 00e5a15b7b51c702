"""A virtual environment for each peer, from pinned requirements, made once and kept.

    python benchmarks/peers/environments.py [NAME ...]        # make them, and say where they are or why not

Peers ask for packages that exclude one another, so none of them can live beside edgeq. They are kept under
``$EDGEQ_CACHE/peers`` (default ``~/.cache/edgeq/peers``), each under the hash of its requirements: a changed pin makes
a new environment and leaves the old one alone.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

_CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"

#: What pip is asked for; everything else that edgeq pins too comes in edgeq's version.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "brevitas": ("brevitas==0.13.4", "accelerate==1.15.0", "onnxoptimizer==0.4.2", "torch==2.13.0", "onnx"),
    "torchao": ("torchao==0.18.0", "torch==2.13.0", "onnx", "onnxscript"),
    "aimet": ("aimet-onnx==2.42.0", "torch==2.13.0", "onnx"),
    "aimet-torch": ("aimet-torch==2.42.0", "torch==2.13.0"),
    "nncf": ("nncf==3.4.0", "onnx", "onnxruntime"),
    "mct": ("model-compression-toolkit==2.6.1", "torch==2.13.0"),
}


class UnavailableError(Exception):
    """An environment cannot be made here; the message says why."""


def python(name: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there.

    Args:
        name: a key of :data:`REQUIREMENTS`.

    Raises:
        UnavailableError: pip could not install it.
    """
    folder = _folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _make(name, folder)
    return folder / "bin" / "python"


def versions(name: str) -> dict[str, str]:
    """The installed versions of what :data:`REQUIREMENTS` names."""
    names = [requirement.partition("==")[0] for requirement in REQUIREMENTS[name]]
    code = "import sys, importlib.metadata as m; print(*(m.version(n) for n in sys.argv[1:]))"
    run = subprocess.run([python(name), "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, run.stdout.split(), strict=True))


def _folder(name: str) -> Path:
    cache = Path(os.environ.get("EDGEQ_CACHE", Path.home() / ".cache" / "edgeq"))
    digest = hashlib.sha256("\n".join((sys.version, *REQUIREMENTS[name])).encode()).hexdigest()
    return cache / "peers" / f"{name}-{digest[:12]}"


def _make(name: str, folder: Path) -> None:
    venv.create(folder, with_pip=True, clear=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    asked = REQUIREMENTS[name]
    run = subprocess.run([*pip, "-c", _CONSTRAINTS, *asked], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        # A peer that asks for older versions than edgeq's gets them.
        run = subprocess.run([*pip, *asked], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        told = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
        raise UnavailableError(told[0].removeprefix("ERROR: ")[:200])
    (folder / "complete").touch()


if __name__ == "__main__":
    for peer in sys.argv[1:] or REQUIREMENTS:
        try:
            print(peer, python(peer), versions(peer))
        except UnavailableError as error:
            print(f"{peer}: {error}")
