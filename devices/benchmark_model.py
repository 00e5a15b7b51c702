"""Latency on an Android phone by TFLite's own ``benchmark_model``, which needs no Python there.

    adb push benchmark_model /data/local/tmp/ ; adb shell chmod +x /data/local/tmp/benchmark_model

The tool tells the mean of a process's runs, not each run; so the two artefacts take turns process by process
(A B A B), and the interval of the ratio is a bootstrap over these pairs of means.
"""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.devices import latency
from edgeq.devices.agent import cpu_of
from edgeq.devices.profile import Profile
from edgeq.errors import DeviceError
from edgeq.measurement import DeviceInfo, Latency, LatencyComparison

TOOL = "/data/local/tmp/benchmark_model"
_FOLDER = "/data/local/tmp/edgeq"
_PROCESSES = 8
_WARM_UP = 5

_TIMINGS = re.compile(
    r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+), Warmup \(avg\): [\d.e+]+, "
    r"Inference \(avg\): ([\d.e+]+)"
)
_MEMORY = re.compile(r"Memory footprint delta from the start of the tool \(MB\): init=[\d.e+-]+ overall=([\d.e+-]+)")


@dataclass(frozen=True)
class ToolRun:
    """What one process of the tool says.

    Attributes:
        mean_us: of an inference.
        start_up_us: initialization and the first inference.
        memory_bytes: what the process gained.
    """

    mean_us: float
    start_up_us: float
    memory_bytes: int


class Phone:
    """An Android device, by ``adb``.

    Args:
        profile: with its transport's serial number and time-out.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def has_tool(self) -> bool:
        """Whether the tool lies on the phone and can be run.

        Raises:
            DeviceError: the phone cannot be reached.
        """
        return "yes" in self._adb("looking for benchmark_model", "shell", f"[ -x {TOOL} ] && echo yes || echo no")

    def info(self) -> DeviceInfo:
        """What the phone is."""
        told = self._adb("asking for the CPU", "shell", "uname -m; cat /proc/cpuinfo; cat /proc/meminfo")
        machine, _, rest = told.partition("\n")
        cpu, features, memory = cpu_of(rest, rest)
        profile = self.profile
        return DeviceInfo(
            profile=profile.name,
            runtime=profile.runtime,
            version="of benchmark_model",
            machine=machine.strip(),
            cpu=cpu,
            cpu_features=tuple(features),
            threads=profile.threads,
            memory_bytes=memory,
        )

    def measure(
        self, artifacts: Sequence[bytes], runs: int, seed: int
    ) -> tuple[list[Latency], LatencyComparison | None]:
        """The latency of each artefact; of two also their ratio, the second over the first.

        Args:
            artifacts: TFLite files.
            runs: of each in all, spread over eight processes.
            seed: of the bootstrap.

        Raises:
            DeviceError: the phone cannot be reached, or the tool fails or says something else.
        """
        paths = [self._push(data, f"{_FOLDER}/{index}.tflite") for index, data in enumerate(artifacts)]
        each = max(1, -(-runs // _PROCESSES))
        found = [[self._run(path, each) for path in paths] for _ in range(_PROCESSES)]
        means = np.array([[round(1000 * run.mean_us) for run in process] for process in found], np.int64)
        summary = []
        for column in range(len(paths)):
            ran = [process[column] for process in found]
            start_up = float(np.median([run.start_up_us for run in ran])) / 1000
            memory = max(run.memory_bytes for run in ran)
            spread = latency.median_and_p90(means[:, column])
            summary.append(Latency(*spread, each * _PROCESSES, start_up, memory))
        if len(paths) == 1:
            return summary, None
        ratio = latency.ratio([means[process : process + 1] for process in range(_PROCESSES)], seed=seed)
        return summary, LatencyComparison(summary[0], summary[1], ratio)

    def _push(self, data: bytes, target: str) -> str:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            file = Path(folder) / Path(target).name
            file.write_bytes(data)
            self._adb("making a folder", "shell", f"mkdir -p {_FOLDER}")
            self._adb("sending the model", "push", str(file), target)
        return target

    def _run(self, path: str, runs: int) -> ToolRun:
        options = [f"--graph={path}", f"--num_threads={self.profile.threads}", f"--num_runs={runs}"]
        # Otherwise the tool goes on until a second is full.
        options += [f"--warmup_runs={_WARM_UP}", "--warmup_min_secs=0", "--min_secs=0"]
        if self.profile.delegate != "default":
            options.append("--use_xnnpack=false")
        prefix = ""
        if self.profile.affinity:
            prefix = f"taskset {sum(1 << core for core in self.profile.affinity):x} "
        return parsed(self._adb("timing", "shell", f"{prefix}{TOOL} {' '.join(options)} 2>&1"), self.profile.name)

    def _adb(self, doing: str, *arguments: str) -> str:
        profile = self.profile
        which = ("-s", profile.transport.serial) if profile.transport.serial else ()
        try:
            done = subprocess.run(
                ("adb", *which, *arguments),
                capture_output=True,
                text=True,
                timeout=profile.transport.timeout_s,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise DeviceError(f"{profile.name}: there is no adb here; on Debian `apt-get install adb`") from None
        except subprocess.TimeoutExpired:
            raise DeviceError(f"{profile.name}: no answer in {profile.transport.timeout_s:g} s while {doing}") from None
        if done.returncode:
            lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise DeviceError(
                f"{profile.name}: adb failed while {doing} ({lines[-1][:300] if lines else 'no message'})"
            )
        return done.stdout


def parsed(text: str, where: str) -> ToolRun:
    """What the tool printed.

    Raises:
        DeviceError: there is no timing in it.
    """
    timings, memory = _TIMINGS.search(text), _MEMORY.search(text)
    if timings is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise DeviceError(
            f"{where}: benchmark_model gave no timing ({lines[-1][:300] if lines else 'it said nothing'})"
        )
    init, first, mean = (float(part) for part in timings.groups())
    return ToolRun(mean, init + first, round(float(memory[1]) * 2**20) if memory else 0)
