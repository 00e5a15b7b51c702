"""Instructions of one inference, counted under emulation: a figure that repeats where clocks do not.

Emulated time is nobody's time, and a busy machine's time is not repeatable; the number of instructions that a model
takes on a given CPU model is. qemu's plugin (``transports/instruction_count.c``) counts all that the process executes;
the agent marks where an inference begins and ends, and what the marks themselves cost is taken off. Each artefact has
a process of its own, so that its figure does not depend on what else was loaded.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.devices.artifact import Artifact
from edgeq.devices.device import Device
from edgeq.devices.profile import Profile
from edgeq.devices.transports import Emulated, make_transport
from edgeq.errors import DeviceError

_WARM_UP = 2


@dataclass(frozen=True)
class InstructionCount:
    """Instructions of one inference, as executed by all threads of the process.

    Attributes:
        median: over the runs.
        lowest: of the runs.
        highest: of the runs.
        runs: how many inferences were counted, after two that were not.
    """

    median: int
    lowest: int
    highest: int
    runs: int

    @property
    def spread(self) -> float:
        """(highest - lowest) / median."""
        return (self.highest - self.lowest) / self.median if self.median else 0.0


def count_instructions(
    profile: Profile, artifact: Artifact | bytes | Path, runs: int = 5, name: str = ""
) -> InstructionCount:
    """Count the instructions of single inferences of one artefact, with seeded random input.

    Args:
        profile: of an emulated device.
        artifact: the file, or its bytes.
        runs: inferences to count.
        name: for messages; the file's name if not given.

    Raises:
        CannotCountError: qemu takes no plugin here, or it cannot be compiled.
        DeviceError: the device is not emulated, or failed.
    """
    transport = make_transport(profile)
    if not isinstance(transport, Emulated):
        raise DeviceError(f"{profile.name}: instructions are counted under emulation alone; choose an emulated device")
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        into = Path(folder) / "counts"
        with Device(profile, replace(transport, count_into=into)) as device:
            device.count(device.load(artifact, name=name), runs=runs, warm_up=_WARM_UP)
            marks = [int(line) for line in into.read_text().split()]
    return _from_marks(marks, runs, profile.name)


def _from_marks(marks: Sequence[int], runs: int, where: str) -> InstructionCount:
    """The counts from the marks around nothing and around each run."""
    if len(marks) != 2 * (runs + 1):
        raise DeviceError(f"{where}: {len(marks)} marks of {2 * (runs + 1)} arrived, so instructions were not counted")
    pairs = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
    counts = [pair - pairs[0] for pair in pairs[1:]]
    return InstructionCount(round(statistics.median(counts)), min(counts), max(counts), runs)
