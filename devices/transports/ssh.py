"""The agent on a machine reached by OpenSSH's client: a Raspberry Pi, a board on the desk.

The agent's source is piped to the Python there, so that nothing needs to be installed but the runtime. Keys and
passwords are OpenSSH's own business (its agent, its configuration): none is on a command line, and nothing is asked
for. An unknown or changed host key is refused.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.devices.transports.transport import AGENT, BOOTSTRAP, piped_agent

#: OpenSSH's client exits with this when the connection, not the command, failed.
_CONNECTION_FAILED = 255


@dataclass(frozen=True)
class Ssh:
    """Runs the agent through ``ssh``.

    Attributes:
        host: as ssh takes it: a name of the user's configuration, or user@host.
        port: 0 leaves it to the configuration.
        options: further ``-o`` options, as in ``("IdentityFile=~/.ssh/board",)``.
        python: the Python there that has NumPy and the runtime.
        store: folder there that keeps artefacts, so that a broken transfer goes on where it stopped.
        agent: the agent's file here.
    """

    host: str
    port: int = 0
    options: tuple[str, ...] = ()
    python: str = "python3"
    store: str = "~/.cache/edgeq/artifacts"
    agent: Path = AGENT

    def command(self, runtime: str) -> Sequence[str]:
        """``ssh HOST python3 -I -c BOOTSTRAP RUNTIME --store FOLDER``."""
        # Of an option given twice OpenSSH takes the first, so that the profile cannot turn the check of host keys off.
        settings = (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
            *self.options,
        )
        chosen = [part for setting in settings for part in ("-o", setting)]
        port = ["-p", str(self.port)] if self.port else []
        remote = shlex.join((self.python, "-I", "-c", BOOTSTRAP, runtime, "--store", self.store))
        return ("ssh", "-T", *chosen, *port, "--", self.host, remote)

    def preamble(self) -> bytes:
        """The agent's source."""
        return piped_agent(self.agent)

    def sees_files(self) -> bool:
        """No: it is another machine."""
        return False

    def lost(self, code: int) -> bool:
        """OpenSSH's client says so with exit code 255."""
        return code == _CONNECTION_FAILED
