"""The agent's process as seen from here: requests with a time limit, and a clear line when it dies.

A watchdog kills the process group at the deadline, so that neither a read nor a write can block for ever. What the
process wrote to its standard error is kept (its end) and goes into the message of a failure.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from types import TracebackType
from typing import Any

import numpy.typing as npt

from edgeq.devices.agent import PROTOCOL, FrameError, read_frame, write_frame
from edgeq.devices.transports.transport import Transport
from edgeq.errors import DeviceError

_LAST_LINES = 40
_STARTING = "starting"
_LONGEST_QUOTE = 300
#: What runtimes write when nothing is wrong.
_CHATTER = ("INFO:", "WARNING:", "W0000", "I0000")


class ConnectionLostError(DeviceError):
    """The connection to the device broke; the device itself may be well."""


class RefusedError(DeviceError):
    """The agent answered that it cannot do what it was asked; it lives on.

    Attributes:
        kind: what failed: memory, model, protocol, request, runtime, system, transfer or import.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class AgentProcess:
    """A running agent. One request at a time; after any :class:`DeviceError` but a RefusedError it is dead."""

    def __init__(self, transport: Transport, runtime: str, name: str, start_timeout: float = 60.0) -> None:
        self._name = name
        self._transport = transport
        self._timed_out = False
        self._stderr: deque[str] = deque(maxlen=_LAST_LINES)
        command = list(transport.command(runtime))
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            advice = "install it, or correct the profile's [transport]"
            raise DeviceError(f"{name}: cannot start {command[0]}: {error.strerror}; {advice}") from None
        self._drain = threading.Thread(target=self._keep_stderr, daemon=True)
        self._drain.start()
        try:
            ready, _ = self._exchange(None, None, start_timeout, _STARTING)
        except BaseException:
            self.kill()
            raise
        if ready["ready"] != PROTOCOL:
            self.kill()
            raise DeviceError(f"{name}: the agent speaks protocol {ready['ready']}, edgeq {PROTOCOL}; update the agent")

    def request(
        self,
        header: dict[str, Any],
        arrays: dict[str, npt.NDArray[Any]] | None = None,
        *,
        timeout: float,
        doing: str,
    ) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Send one request and wait for its reply.

        Args:
            header: with "command" and its arguments.
            arrays: what goes with it.
            timeout: seconds from the first byte sent to the last received.
            doing: for the message of a failure, as in "while loading the model".

        Raises:
            RefusedError: the agent says no.
            ConnectionLostError: the connection broke.
            DeviceError: the agent died, hung or sent garbage.
        """
        return self._exchange(header, arrays, timeout, doing)

    def _exchange(
        self,
        header: dict[str, Any] | None,
        arrays: dict[str, npt.NDArray[Any]] | None,
        timeout: float,
        doing: str,
    ) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        assert self._process.stdin is not None
        watchdog = threading.Timer(timeout, self._stop_late)
        watchdog.daemon = True
        watchdog.start()
        try:
            if header is None:
                self._process.stdin.write(self._transport.preamble())
                self._process.stdin.flush()
            else:
                write_frame(self._process.stdin, header, arrays)  # type: ignore[arg-type]
            reply, results = read_frame(self._read)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            watchdog.cancel()
            raise self._death(timeout, doing) from None
        except FrameError as error:
            self.kill()
            raise DeviceError(f"{self._name}: unreadable answer while {doing}: {error}{self._quote()}") from None
        finally:
            watchdog.cancel()
        if "error" in reply:
            kind, message = reply["error"]["kind"], " ".join(str(reply["error"]["message"]).split())
            raise RefusedError(kind, f"{self._name}: {message[:_LONGEST_QUOTE]} (while {doing})")
        return reply, results

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) != size:
            raise EOFError
        return data

    def _death(self, timeout: float, doing: str) -> DeviceError:
        try:
            # Its pipe is closed, so that it is dead or about to be.
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        if self._timed_out:
            return DeviceError(
                f"{self._name}: no answer in {timeout:g} s while {doing}, so it was stopped{self._quote()}; "
                "if it only needs longer, raise timeout_s in the profile's [transport]"
            )
        if code is not None and self._transport.lost(code):
            if doing == _STARTING:
                return ConnectionLostError(
                    f"{self._name}: cannot connect{self._quote()}; is it on, and its name right?"
                )
            return ConnectionLostError(f"{self._name}: the connection broke while {doing}{self._quote()}")
        return DeviceError(f"{self._name}: {_explain(code)} while {doing}{self._quote()}")

    def _stop_late(self) -> None:
        self._timed_out = True
        self._signal()

    def _signal(self) -> None:
        if self._process.returncode is not None:
            # Waited for already: its number may be another process's by now.
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _keep_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            text = line.decode(errors="replace").strip()
            if text:
                self._stderr.append(text)

    @property
    def stderr(self) -> tuple[str, ...]:
        """The last lines that the process wrote to its standard error."""
        return tuple(self._stderr)

    def _quote(self) -> str:
        telling = [line for line in self._stderr if not line.startswith(_CHATTER)]
        return f" ({telling[-1][:_LONGEST_QUOTE]})" if telling else ""

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and everything it started, now."""
        self._signal()
        self._process.wait()
        self._drain.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()

    def close(self) -> None:
        """Ask the agent to end, and see to it that it does."""
        with contextlib.suppress(DeviceError):
            if self.alive:
                self.request({"command": "quit"}, timeout=5, doing="ending")
                self._process.wait(5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0)
        self.kill()

    def __enter__(self) -> "AgentProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _explain(code: int | None) -> str:
    if code is None:
        return "the agent closed its output"
    # A shell in between reports a death by signal n as 128 + n.
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    if number == signal.SIGKILL:
        return "the agent was killed (SIGKILL; the system does this when memory runs out)"
    if number:
        with contextlib.suppress(ValueError):
            return f"the runtime crashed with {signal.Signals(number).name}"
    return f"the agent ended with exit code {code}"
