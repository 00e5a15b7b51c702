"""The agent as a process on this machine, under any Python."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.devices.transports.transport import AGENT


@dataclass(frozen=True)
class Local:
    """Runs the agent's file with a Python of this machine.

    Attributes:
        python: the interpreter, with arguments if it needs some.
        memory_limit: bytes of address space that the agent may use, 0 for no limit.
        store: folder in which the agent keeps artefacts between runs; None for a temporary one.
        agent: the agent's file.
    """

    python: tuple[str, ...] = (sys.executable,)
    memory_limit: int = 0
    store: Path | None = None
    agent: Path = AGENT

    def command(self, runtime: str) -> Sequence[str]:
        """``python -I agent.py RUNTIME``: isolated from the user's environment variables and site."""
        store = ("--store", str(self.store)) if self.store else ()
        limit = ("--memory-limit", str(self.memory_limit)) if self.memory_limit else ()
        return (*self.python, "-I", str(self.agent), runtime, *store, *limit)

    def preamble(self) -> bytes:
        """Nothing: the file is there."""
        return b""

    def sees_files(self) -> bool:
        """Yes."""
        return True

    def lost(self, code: int) -> bool:
        """Never: there is no connection but the pipe."""
        return False
