"""What a transport is: the way to start the agent, and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

#: The agent's one file.
AGENT = Path(__file__).resolve().parent.parent / "agent.py"

#: Python code that reads the agent's source from standard input and becomes the agent: nothing is left on the device.
BOOTSTRAP = "import sys;n=int(sys.stdin.buffer.readline());exec(compile(sys.stdin.buffer.read(n),'agent','exec'))"


def piped_agent(agent: Path = AGENT) -> bytes:
    """What :data:`BOOTSTRAP` reads: the length of the agent's source in a line, then the source."""
    source = agent.read_bytes()
    return b"%d\n" % len(source) + source


class Transport(Protocol):
    """Starts the agent as a process whose standard input and output carry the frames."""

    def command(self, runtime: str) -> Sequence[str]:
        """The command line that starts the agent for a runtime; what must be made first is made here.

        Raises:
            DeviceError: something that starting needs cannot be had.
        """
        ...

    def preamble(self) -> bytes:
        """Bytes to write to the process before the first frame."""
        ...

    def sees_files(self) -> bool:
        """Whether the agent sees this machine's files under their names here."""
        ...

    def lost(self, code: int) -> bool:
        """Whether this exit code means that the connection broke, so that another try may help."""
        ...
