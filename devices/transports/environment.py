"""The agent in a virtual environment of its own, which edgeq makes from the package registry and keeps.

For runtimes that cannot share an environment with the rest: tflite-runtime 2.14 does not run on NumPy 2.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.devices.transports.cache import made_once, step
from edgeq.devices.transports.local import Local


@dataclass(frozen=True)
class Environment:
    """Makes the environment if it is not there, and runs the agent in it.

    Attributes:
        requirements: as pip takes them.
        python: the Python to make it with.
        local: how the agent runs there.
    """

    requirements: tuple[str, ...]
    python: str = sys.executable
    local: Local = field(default_factory=Local)

    def folder(self) -> Path:
        """The environment, made if it is not there."""
        return made_once("environment", (self.python, sys.version, *self.requirements), self._make)

    def _make(self, folder: Path) -> None:
        packages = " ".join(self.requirements)
        step("make a virtual environment", (self.python, "-m", "venv", str(folder)), advice="is venv installed?")
        pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        step(
            f"install {packages}",
            (*pip, "--only-binary=:all:", *self.requirements),
            advice="check the network, or name another `python` in the profile's [transport]: it may need an older one",
        )

    def command(self, runtime: str) -> Sequence[str]:
        """The agent's file under the environment's Python."""
        _, *rest = self.local.command(runtime)
        return (str(self.folder() / "bin" / "python"), *rest)

    def preamble(self) -> bytes:
        """Nothing: the file is there."""
        return b""

    def sees_files(self) -> bool:
        """Yes."""
        return True

    def lost(self, code: int) -> bool:
        """Never: there is no connection but the pipe."""
        return False
