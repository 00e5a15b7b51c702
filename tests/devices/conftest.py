"""A loopback OpenSSH server and a stand-in for adb, for the tests of the transports."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.devices.transports import Ssh


@dataclass
class SshServer:
    """An OpenSSH server of this test session alone: own port, own keys, own configuration."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([sshd, "-D", "-e", "-f", str(self.folder / "config")], stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    pytest.skip(f"the OpenSSH server does not start: {(self.folder / 'log').read_text()[-300:]}")
                time.sleep(0.02)

    def stop(self) -> None:
        """No new connections; those that exist stay."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(10)

    def drop_connections(self) -> None:
        """End every connection, as a pulled cable would once the server notices."""
        assert self.process is not None
        for child in children(self.process.pid):
            # It may be gone since it was found.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def transport(self, **more: object) -> Ssh:
        options = (
            f"IdentityFile={self.folder / 'user'}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
        )
        given = {"python": sys.executable, "store": str(self.folder / "store")} | more
        return Ssh("127.0.0.1", self.port, options, **given)  # type: ignore[arg-type]


def children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(status.parent.name)
            found += [child, *children(child)]
    return found


@contextmanager
def serving() -> Iterator[SshServer]:
    """A running server with fresh keys in a temporary folder."""
    if shutil.which("ssh") is None or not (shutil.which("sshd") or Path("/usr/sbin/sshd").exists()):
        pytest.skip("no OpenSSH client and server here")
    if os.geteuid() == 0:
        # The server insists on this folder when it runs as root.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
            f"PasswordAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPidFile none\nLogLevel ERROR\n"
        )
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
        server = SshServer(folder, port)
        server.start()
        try:
            yield server
        finally:
            server.drop_connections()
            server.stop()


@pytest.fixture(scope="session")
def ssh_server() -> Iterator[SshServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def adb_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A program named adb that knows one device, "phone", whose shell is this machine's."""
    folder = tmp_path_factory.mktemp("adb")
    program = folder / "adb"
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -s ] || { echo "error: more than one device" >&2; exit 1; }\n'
        '[ "$2" = phone ] || { echo "error: device \'$2\' not found" >&2; exit 1; }\n'
        '[ "$3 $4" = "shell -T" ] || { echo "error: unknown command $3 $4" >&2; exit 1; }\n'
        'exec sh -c "$5"\n'
    )
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield "phone"
