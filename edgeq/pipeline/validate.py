"""Run the files on the devices: float on target, simulated, deployed; agreement, parity and latency."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeq.calibration.data import Dataset
from edgeq.devices import Device, Handle, Profile, parity
from edgeq.devices.artifact import Artifact
from edgeq.devices.hazards import hazards
from edgeq.devices.op_profile import OpProfile
from edgeq.devices.op_profile import OpTime as TimedOp
from edgeq.devices.speed_verdict import speed_verdict
from edgeq.graph.graph import name
from edgeq.measurement import DeviceInfo, Evaluation, Interval, Latency, LatencyComparison, Measurement
from edgeq.metric import PER_TOKEN, default_metric, evaluate
from edgeq.pipeline.artifacts import File
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan
from edgeq.plan.store import digest
from edgeq.progress import Reporter
from edgeq.release.release import OpTime
from edgeq.release.statistics.shares import clopper_pearson
from edgeq.run_folder import RunFolder
from edgeq.simulate import IntegerSimulation, Simulation
from edgeq.simulate.kernels import FAMILIES, family

Array = npt.NDArray[Any]
_BATCH = 100


@dataclass(frozen=True, eq=False)
class Validation:
    """What measuring on devices shares: the model, its plan, the samples."""

    options: Options
    model: Model
    plan: Plan
    sets: Sets
    folder: RunFolder
    reporter: Reporter

    @property
    def output(self) -> str:
        """The output that is judged: the first."""
        return name(self.model.graph.outputs[0])


def measure(validation: Validation, device: Device, profile: Profile, file: File) -> Measurement:
    """Everything about one file on one device.

    Raises:
        DeviceError: the device failed.
    """
    labels = validation.sets.evaluation.labels()
    reference = _deployed(validation, device, profile, file, "float")
    deployed = _deployed(validation, device, profile, file, "integer")
    simulated = simulate(validation, profile.kernels)
    metric = validation.options.metric or default_metric(labels, reference)
    scored = {
        key: evaluate(metric, outputs, labels, reference)
        for key, outputs in (("float", reference), ("simulated", simulated), ("deployed", deployed))
    }
    notes = list(file.notes)
    if profile.kernels not in {known.name for known in FAMILIES}:
        notes.append(f"kernels {profile.kernels!r} have no exact simulation: parity is against fake quantization")
    latency = _latency(validation, device, profile, file)
    if latency is not None:
        notes += [verdict.sentence for verdict in [speed_verdict(latency, device.info)] if not verdict.faster]
    if file.format == "onnx":
        notes += hazard_notes(file.integer)
    return Measurement(
        device=device.info,
        artifact=file.name,
        float_on_target=scored["float"],
        simulated=scored["simulated"],
        deployed=scored["deployed"],
        agreement=_agreement(scored["float"], scored["deployed"]),
        parity=parity(simulated, deployed, step=_step(validation, simulated), decisions=_decides(metric, simulated)),
        latency=latency,
        size_bytes=file.integer.size_bytes,
        float_size_bytes=file.floating.size_bytes,
        integer_mac_share=file.audit.integer_mac_share,
        notes=tuple(notes),
    )


def hazard_notes(artifact: Artifact) -> list[str]:
    """What the file would compute otherwise on another CPU, one sentence for each kind."""
    found = hazards(artifact)
    notes = []
    for kind in sorted({hazard.kind for hazard in found}):
        same = [hazard for hazard in found if hazard.kind == kind]
        more = f" (and {len(same) - 1} more layers)" if len(same) > 1 else ""
        notes.append(f"{same[0].message}{more}")
    return notes


def _deployed(validation: Validation, device: Device, profile: Profile, file: File, kind: str) -> Array:
    """The judged output of all evaluation samples, as the device computes it."""
    artifact = file.integer if kind == "integer" else file.floating

    def compute() -> bytes:
        handle = device.load(artifact, name=f"{file.name} ({kind})")
        parts = [
            from_file_layout(
                device.run(handle, to_file_layout(inputs, file))[validation.output], validation.output, file
            )
            for inputs in _inputs(validation.sets.evaluation, validation.reporter)
        ]
        return _pack(join_outputs(parts, validation.sets.evaluation))

    key = device_key(validation, device, profile) | {"file": artifact.sha256}
    return _unpack(validation.folder.stage(f"outputs-{profile.name}-{kind}", key, compute))


def simulate(validation: Validation, kernels: str) -> Array:
    """The judged output of all evaluation samples, simulated with a kernel family (fake quantization if unknown)."""
    graph, plan = validation.model.graph, validation.plan
    known = kernels in {each.name for each in FAMILIES}

    def compute() -> bytes:
        module: nn.Module = IntegerSimulation(graph, plan, family(kernels)) if known else Simulation(graph, plan)
        return _pack(_run_module(module, validation))

    key = {"plan": plan_digest(validation), "data": validation.sets.digests["evaluation"], "kernels": kernels}
    return _unpack(validation.folder.stage("simulated", key, compute))


def join_outputs(parts: list[Array], dataset: Dataset) -> Array:
    """The outputs of all samples; of a whole input the output's first dimension may count something else."""
    return np.stack(parts) if dataset.whole and len(parts[0]) != 1 else np.concatenate(parts)


def _run_module(module: nn.Module, validation: Validation) -> Array:
    parts = []
    names = [name(value) for value in validation.model.graph.inputs]
    with torch.inference_mode():
        for inputs in _inputs(validation.sets.evaluation, validation.reporter):
            result = module(*(torch.from_numpy(inputs[key]) for key in names))
            parts.append((result[0] if isinstance(result, tuple) else result).numpy())
    return join_outputs(parts, validation.sets.evaluation)


def _inputs(dataset: Dataset, reporter: Reporter) -> Iterator[dict[str, Array]]:
    done = 0
    for batch in dataset.batches(_BATCH):
        yield batch.inputs
        done += len(batch)
        reporter.advance(done, len(dataset))


def to_file_layout(inputs: Mapping[str, Array], file: File) -> dict[str, Array]:
    """Inputs of the graph as the file takes them."""
    return {
        key: np.ascontiguousarray(array.transpose(file.layouts[key])) if key in file.layouts else array
        for key, array in inputs.items()
    }


def from_file_layout(output: Array, output_name: str, file: File) -> Array:
    """An output of the file as the graph gives it."""
    order = file.layouts.get(output_name)
    return output if order is None else output.transpose(np.argsort(order))


def _latency(validation: Validation, device: Device, profile: Profile, file: File) -> LatencyComparison | None:
    if not validation.options.latency_runs:
        return None

    def compute() -> bytes:
        sample = to_file_layout(next(validation.sets.evaluation.batches(1)).inputs, file)
        handles: tuple[Handle, Handle] = (
            device.load(file.floating, name=f"{file.name} (float)"),
            device.load(file.integer, name=file.name),
        )
        runs, seed = validation.options.latency_runs, validation.options.seed
        return json.dumps(asdict(device.compare_latency(*handles, sample, runs, seed=seed))).encode()

    key = device_key(validation, device, profile) | {
        "file": file.integer.sha256,
        "runs": validation.options.latency_runs,
    }
    stored = json.loads(validation.folder.stage(f"latency-{profile.name}", key, compute))
    return LatencyComparison(
        Latency(**stored["reference"]), Latency(**stored["candidate"]), Interval(**stored["ratio"])
    )


def op_profile(validation: Validation, device: Device, profile: Profile, file: File) -> OpProfile:
    """The time of each op, where the runtime has a profiler; none without it, and where latency was not asked for."""
    if not validation.options.latency_runs or profile.runtime not in ("onnxruntime", "litert"):
        return OpProfile(())

    def compute() -> bytes:
        sample = to_file_layout(next(validation.sets.evaluation.batches(1)).inputs, file)
        found = device.op_profile(device.load(file.integer, name=file.name), sample)
        return json.dumps([asdict(op) for op in found.ops]).encode()

    key = device_key(validation, device, profile) | {"file": file.integer.sha256}
    stored = json.loads(validation.folder.stage(f"ops-{profile.name}", key, compute))
    return OpProfile(tuple(TimedOp(**op) for op in stored))


def times_by_op(profile: Profile, ops: OpProfile) -> list[OpTime]:
    """Time by kind of op, the longest first."""
    return [OpTime(profile.name, op, total, calls, kind) for op, kind, calls, total in ops.by_op()]


def _agreement(reference: Evaluation, deployed: Evaluation) -> Interval | None:
    if reference.decisions is None or deployed.decisions is None:
        return None
    same = reference.decisions == deployed.decisions
    low, high = clopper_pearson(int(same.sum()), same.size, 0.95)
    return Interval(float(same.mean()), low, high)


def _step(validation: Validation, simulated: Array) -> float:
    """The output's grid step; for a float output one 255th of its range, so that parity reads alike."""
    grid = validation.plan.activations.get(validation.output)
    if grid is not None:
        return float(grid.scale)
    extent = float(simulated.max() - simulated.min())
    return extent / 255 if extent > 0 else 1.0


def _decides(metric: str, outputs: Array) -> bool:
    return metric in PER_TOKEN or (outputs.ndim == 2 and outputs.shape[1] > 1)


def device_key(validation: Validation, device: Device, profile: Profile) -> dict[str, Any]:
    """What the result of running anything on a device depends on."""
    info: DeviceInfo = device.info
    return {
        "profile": asdict(profile),
        "version": info.version,
        "cpu": [info.machine, info.cpu, list(info.cpu_features)],
        "data": validation.sets.digests["evaluation"],
    }


def plan_digest(validation: Validation) -> str:
    """Of the plan and the model that it is of."""
    return digest(validation.plan) + validation.model.digest


def _pack(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _unpack(data: bytes) -> Array:
    array: Array = np.load(io.BytesIO(data), allow_pickle=False)
    return array
