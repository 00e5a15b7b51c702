"""The agent with one more runtime, "null" made faulty: what the artefact says goes wrong when it is loaded or run.

Artefact: a null model with "fault": [when, what]; when is load or run, what is one of the branches below.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path

import numpy as np

agent = runpy.run_path(str(Path(__file__).parents[2] / "devices" / "agent.py"))


def misbehave(what: str) -> None:
    if what == "segfault":
        import ctypes

        print("kernel: reading address zero", file=sys.stderr, flush=True)
        ctypes.string_at(0)
    elif what == "hang":
        time.sleep(3600)
    elif what == "memory":
        blocks = [np.ones(1 << 27, np.uint8)]
        while True:
            blocks.append(np.ones(1 << 27, np.uint8))
    elif what == "killed":
        os.kill(os.getpid(), 9)
    elif what == "exit":
        print("I have had enough", file=sys.stderr, flush=True)
        os._exit(7)
    elif what == "print":
        print("chatter on standard output" * 1000)
        os.system("echo more chatter")
    elif what == "garbage":
        os.write(agent_output(), b"this is no frame at all, but long enough to be read as one")


def agent_output() -> int:
    """The descriptor that carries the frames: the duplicate of the original standard output."""
    return next(fd for fd in range(3, 64) if _is_pipe_for_writing(fd))


def _is_pipe_for_writing(fd: int) -> bool:
    import fcntl
    import stat

    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY != 0
    except OSError:
        return False


class FaultyModel(agent["NullModel"]):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        described = json.loads(Path(path).read_text())
        self.when, self.what = described.get("fault", ["never", ""])
        if self.when == "load":
            misbehave(self.what)

    def invoke(self) -> None:
        if self.when == "run":
            misbehave(self.what)

    def fetch(self) -> dict:
        values = super().fetch()
        if self.what == "nan":
            values["y"] = values["y"] + np.float32("nan")
        return values


class Faulty:
    def version(self) -> str:
        return "1.0"

    def load(self, path: str, options: dict) -> FaultyModel:
        return FaultyModel(path)


agent["RUNTIMES"]["null"] = Faulty
sys.exit(agent["main"]())
