"""The agent on an Android device reached by the Android Debug Bridge, under a Python there (such as Termux's).

``adb shell -T`` carries binary input and output, keeps standard error apart and returns the exit code (the shell
protocol of Android 7 and later).
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.devices.transports.transport import AGENT, BOOTSTRAP, piped_agent

#: What adb exits with when the device is gone ("error: closed", "device offline").
_CONNECTION_FAILED = (1, 255)


@dataclass(frozen=True)
class Adb:
    """Runs the agent through ``adb shell``.

    Attributes:
        serial: which device, as ``adb devices`` lists it; "" for the only one.
        python: the Python there that has NumPy and the runtime.
        store: folder there that keeps artefacts between runs.
        agent: the agent's file here.
    """

    serial: str = ""
    python: str = "/data/data/com.termux/files/usr/bin/python3"
    store: str = "/data/local/tmp/edgeq"
    agent: Path = AGENT

    def command(self, runtime: str) -> Sequence[str]:
        """``adb -s SERIAL shell -T python3 -I -c BOOTSTRAP RUNTIME --store FOLDER``."""
        which = ("-s", self.serial) if self.serial else ()
        remote = shlex.join((self.python, "-I", "-c", BOOTSTRAP, runtime, "--store", self.store))
        return ("adb", *which, "shell", "-T", remote)

    def preamble(self) -> bytes:
        """The agent's source."""
        return piped_agent(self.agent)

    def sees_files(self) -> bool:
        """No: it is another machine."""
        return False

    def lost(self, code: int) -> bool:
        """Whether adb lost the device."""
        return code in _CONNECTION_FAILED
