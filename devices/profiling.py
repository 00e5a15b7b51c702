"""What ``edgeq profile`` measures: latency alone or against another artefact, the time of each op, and the verdict.

On an emulated device instructions are counted instead, because an emulator's time is nobody's; on a phone TFLite's own
``benchmark_model`` is taken where it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.devices.artifact import read_artifact
from edgeq.devices.benchmark_model import Phone
from edgeq.devices.device import Device
from edgeq.devices.hazards import Hazard, hazards
from edgeq.devices.instructions import InstructionCount, count_instructions
from edgeq.devices.op_profile import OpProfile
from edgeq.devices.profile import Profile
from edgeq.devices.speed_verdict import SpeedVerdict, instruction_verdict, speed_verdict
from edgeq.devices.transports import CannotCountError, make_transport
from edgeq.errors import DeviceError, UsageError
from edgeq.measurement import DeviceInfo, Latency, LatencyComparison

#: Counted inferences; more would only show the same number again.
_COUNTED = 5


@dataclass(frozen=True)
class Budgeted:
    """A budget of the profile and what was measured.

    Attributes:
        name: size_bytes, memory_bytes, latency_ms or start_up_ms.
        measured: of the artefact.
        limit: of the profile.
    """

    name: str
    measured: float
    limit: float

    @property
    def kept(self) -> bool:
        """Whether the limit is not exceeded."""
        return self.measured <= self.limit


@dataclass(frozen=True)
class Profiling:
    """All that was measured of an artefact on one device.

    Attributes:
        device: where.
        latency: of the artefact; None where instructions were counted instead.
        comparison: against the other artefact, which is the reference; None if there is none, or no latency.
        instructions: of one inference, on an emulated device; None elsewhere.
        reference_instructions: the same of the other artefact.
        ops: the time of each op; None where the runtime gives no profile.
        reference_ops: the same of the other artefact.
        verdict: on the speed against the other artefact.
        hazards: what another CPU would compute differently.
        budgets: what the profile allows, each measured; empty where it sets none.
        notes: what could not be had, and why.
    """

    device: DeviceInfo
    latency: Latency | None
    comparison: LatencyComparison | None
    instructions: InstructionCount | None
    reference_instructions: InstructionCount | None
    ops: OpProfile | None
    reference_ops: OpProfile | None
    verdict: SpeedVerdict | None
    hazards: tuple[Hazard, ...]
    notes: tuple[str, ...]
    budgets: tuple[Budgeted, ...] = ()


def profile_artifact(
    profile: Profile, artifact: Path, against: Path | None = None, *, runs: int = 300, seed: int = 0
) -> Profiling:
    """Profile a file on a device, with seeded random input.

    Args:
        profile: the device.
        artifact: the file.
        against: another file for the same runtime, usually the float model.
        runs: timed runs (pairs of runs, against another); on an emulated device at most 5 are counted.
        seed: of the input and of the interval's bootstrap.

    Raises:
        UsageError: a file is not of the kind that the device runs, or runs is not positive.
        ModelError: a file cannot be read.
        DeviceError: the device failed.
    """
    if runs < 1:
        raise UsageError(f"--runs {runs}: at least 1 is needed, 300 are usual")
    files = [artifact] if against is None else [artifact, against]
    for file in files:
        check_kind(profile, file)
    result = _measured(profile, files, runs, seed)
    # Last, because a file that no runtime takes should be the device's to refuse.
    found = hazards(artifact) if profile.artifact == "onnx" else ()
    return replace(result, hazards=found, budgets=_budgeted(profile, artifact, result.latency))


def _budgeted(profile: Profile, artifact: Path, latency: Latency | None) -> tuple[Budgeted, ...]:
    measured: dict[str, float] = {"size_bytes": artifact.stat().st_size}
    if latency is not None:
        measured["memory_bytes"] = latency.peak_memory_bytes
        measured |= {"latency_ms": latency.median_ms, "start_up_ms": latency.start_up_ms}
    limits = ((name, getattr(profile.budgets, name)) for name in measured)
    return tuple(Budgeted(name, measured[name], limit) for name, limit in limits if limit is not None)


def _measured(profile: Profile, files: Sequence[Path], runs: int, seed: int) -> Profiling:
    if profile.transport.kind == "emulated":
        try:
            return _counted(profile, files, min(runs, _COUNTED))
        except CannotCountError as error:
            reason = f"instructions were not counted: {error}; the times above are the emulator's, not a device's"
            return replace(_timed(profile, files, runs, seed), verdict=None, notes=(reason,))
    if profile.transport.kind == "adb":
        phone = Phone(profile)
        if phone.has_tool():
            return _on_phone(phone, files, runs, seed)
    return _timed(profile, files, runs, seed)


def _on_phone(phone: Phone, files: Sequence[Path], runs: int, seed: int) -> Profiling:
    """What TFLite's own tool tells on a phone."""
    info = phone.info()
    summary, comparison = phone.measure([read_artifact(file).data for file in reversed(files)], runs, seed)
    verdict = None if comparison is None else speed_verdict(comparison, info)
    notes = ("timed by benchmark_model on the phone, process by process; it gives no time per op here",)
    return Profiling(info, summary[-1], comparison, None, None, None, None, verdict, (), notes)


def _counted(profile: Profile, files: Sequence[Path], runs: int) -> Profiling:
    """What an emulated device can tell."""
    counts = [count_instructions(profile, read_artifact(file), runs, file.name) for file in files]
    with Device(profile, make_transport(profile)) as device:
        info = device.info
    reference = counts[1] if len(counts) > 1 else None
    verdict = None if reference is None else instruction_verdict(counts[0], reference, info)
    return Profiling(info, None, None, counts[0], reference, None, None, verdict, (), ())


def _timed(profile: Profile, files: Sequence[Path], runs: int, seed: int) -> Profiling:
    notes: list[str] = []
    with Device(profile, make_transport(profile)) as device:
        handles = [device.load(read_artifact(file), name=file.name) for file in files]
        if len(files) == 1:
            comparison, latency = None, device.latency(handles[0], runs=runs)
        else:
            comparison = device.compare_latency(handles[1], handles[0], runs=runs, seed=seed)
            latency = comparison.candidate
        ops: list[OpProfile | None] = []
        for handle in handles:
            try:
                ops.append(device.op_profile(handle))
            except DeviceError as error:
                ops.append(None)
                notes.append(f"no time per op: {error}")
                break
        info = device.info
    ops += [None] * (2 - len(ops))
    verdict = None if comparison is None else speed_verdict(comparison, info, ops[0], ops[1])
    return Profiling(info, latency, comparison, None, None, ops[0], ops[1], verdict, (), tuple(notes))


def check_kind(profile: Profile, file: Path) -> None:
    """Refuse a file that the device's runtime cannot take, by its name.

    Raises:
        UsageError: its suffix is another.
    """
    if file.suffix.lower() != f".{profile.artifact}":
        raise UsageError(f"{file.name}: {profile.name} runs .{profile.artifact} files; choose another --device")


def default_device(file: Path, machine: str) -> str:
    """The profile for a file on a machine, when the user names none.

    Raises:
        UsageError: no runtime takes such a file.
    """
    if file.suffix.lower() == ".tflite":
        return "cpu-litert"
    if file.suffix.lower() == ".onnx":
        return "arm-onnxruntime" if machine in ("aarch64", "arm64") else "cpu-onnxruntime"
    raise UsageError(f"{file.name}: edgeq runs .onnx and .tflite files")
