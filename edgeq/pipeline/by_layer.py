"""The rows of the per-layer table: what each layer is, its noise, its parity on the devices, its time and its blame."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.devices import Device, Profile
from edgeq.devices.layers import compare_layers, opened_onnx, opened_tflite
from edgeq.devices.op_profile import OpProfile
from edgeq.errors import DataError, DeviceError, ModelError
from edgeq.graph.execute import iterate_values
from edgeq.graph.graph import name
from edgeq.graph.macs import macs
from edgeq.pipeline.artifacts import File
from edgeq.pipeline.inputs import Model
from edgeq.pipeline.validate import Validation, device_key, plan_digest, to_file_layout
from edgeq.plan.plan import Plan
from edgeq.plan.stored import in_bytes
from edgeq.release.release import Layer
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.integer import dequantize
from edgeq.simulate.kernels import FAMILIES, family

Array = npt.NDArray[Any]
#: Samples of the evaluation set that are compared layer by layer, and how many of them are in memory at once.
_SAMPLES, _BATCH = 16, 4
_OPENERS = {"onnxruntime": opened_onnx, "litert": opened_tflite, "tflite-runtime": opened_tflite}


@dataclass(frozen=True)
class LayerMeasurements:
    """What one device tells of the layers.

    Attributes:
        sqnr_db: value -> signal to quantization noise of the simulation, all layers before it quantized too.
        steps: value -> largest difference of simulated and deployed codes.
        times: unit or node name -> milliseconds.
    """

    sqnr_db: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)


def layer_rows(model: Model, plan: Plan) -> tuple[Layer, ...]:
    """The rows before anything is measured."""
    counts = macs(model.graph, model.shapes)
    rows = []
    for unit in plan.units:
        weight = plan.weights.get(unit.weight) if unit.weight is not None else None
        bias = plan.biases.get(unit.name)
        numbers = [constant.codes.size for constant in (weight, bias) if constant is not None]
        rows.append(
            Layer(
                name=unit.name,
                op=unit.op,
                bits=str(plan.skeleton.bits[unit.name]),
                integer=unit.integer,
                module=unit.module,
                reason=unit.reason,
                macs=sum(counts.get(node, 0) for node in unit.nodes) or None,
                parameters=sum(numbers) or None,
            )
        )
    return tuple(rows)


def measure_layers(
    validation: Validation, device: Device, profile: Profile, file: File, ops: OpProfile
) -> LayerMeasurements:
    """Noise, parity and time of the layers on one device; what its runtime cannot tell is left out.

    Raises:
        DeviceError: the device failed; a runtime that cannot give out inner codes is no failure.
    """
    if profile.kernels not in {known.name for known in FAMILIES}:
        return LayerMeasurements(times=_times(ops))

    def compute() -> bytes:
        noise, steps = _Noise(), dict[str, int]()
        simulation = IntegerSimulation(validation.model.graph, validation.plan, family(profile.kernels))
        deployed = _deployed(validation, device, profile, file)
        for inputs in _batches(validation):
            real = tuple(torch.from_numpy(inputs[name(value)]) for value in validation.model.graph.inputs)
            codes, _ = simulation.run(real, keep=lambda value: True)
            noise.add(validation, real, codes)
            found = next(deployed, None)
            if found is not None:
                for value, largest in _steps(codes, found):
                    steps[value] = max(steps.get(value, 0), largest)
        return json.dumps({"sqnr_db": noise.decibels(), "steps": steps}, sort_keys=True).encode()

    key = device_key(validation, device, profile) | {"plan": plan_digest(validation), "file": file.integer.sha256}
    stored = json.loads(validation.folder.stage(f"layers-{profile.name}", key, compute))
    return LayerMeasurements(stored["sqnr_db"], stored["steps"], _times(ops))


def with_measured(rows: tuple[Layer, ...], plan: Plan, measured: list[LayerMeasurements]) -> tuple[Layer, ...]:
    """The rows with the noise on the first device, the worst parity of all, and the first time that is known."""
    return tuple(
        replace(
            row,
            sqnr_db=next((m.sqnr_db[unit.outputs[0]] for m in measured if unit.outputs[0] in m.sqnr_db), None),
            parity_steps=max((m.steps[unit.outputs[0]] for m in measured if unit.outputs[0] in m.steps), default=None),
            latency_ms=next((sum(found) for m in measured if (found := _of_unit(unit.nodes, m.times))), None),
        )
        for row, unit in zip(rows, plan.units, strict=True)
    )


def blamed(rows: tuple[Layer, ...], diagnosis: Mapping[str, Any]) -> tuple[Layer, ...]:
    """The rows with what the diagnostic found of each layer; blame as a share of the whole climb."""
    found = {layer["name"]: layer for layer in diagnosis["layers"]}
    climb = sum(layer["blame"] or 0.0 for layer in diagnosis["layers"]) or 1.0
    return tuple(
        replace(
            row,
            blame=None if entry["blame"] is None else entry["blame"] / climb,
            half_width=entry["half_width"],
            safe_bits=entry["safe_bits"],
        )
        if (entry := found.get(row.module or row.name) or found.get(row.name)) is not None
        else row
        for row in rows
    )


class _Noise:
    """Sums of squares of the float values and of their distance to the simulated ones."""

    def __init__(self) -> None:
        self.signal: dict[str, float] = {}
        self.noise: dict[str, float] = {}

    def add(self, validation: Validation, inputs: tuple[torch.Tensor, ...], codes: dict[str, torch.Tensor]) -> None:
        """One batch."""
        with torch.inference_mode():
            for value, exact in iterate_values(validation.model.module, inputs, frozenset(codes)):
                real = exact.double()
                error = real - dequantize(codes[value], validation.plan.activations[value]).double()
                self.signal[value] = self.signal.get(value, 0.0) + float(real.square().sum())
                self.noise[value] = self.noise.get(value, 0.0) + float(error.square().sum())

    def decibels(self) -> dict[str, float]:
        """By value; without those that have no signal or no noise."""
        return {
            value: round(10 * float(np.log10(signal / self.noise[value])), 3)
            for value, signal in self.signal.items()
            if signal > 0 and self.noise[value] > 0
        }


def _batches(validation: Validation) -> Iterator[dict[str, Array]]:
    for batch in validation.sets.evaluation.take(_SAMPLES, validation.options.seed).batches(_BATCH):
        yield batch.inputs


def _deployed(validation: Validation, device: Device, profile: Profile, file: File) -> Iterator[dict[str, Array]]:
    """The device's codes by value, as the plan has them, batch by batch; nothing where it cannot give them out."""
    stored = in_bytes(validation.plan).activations if file.format == "tflite" else {}
    shifts = {value: grid.offset for value, grid in stored.items() if grid.offset}
    opener = _OPENERS.get(profile.runtime)
    if opener is None:
        return
    try:
        opened = opener(file.integer.data)
        handle = device.load(replace(file.integer, data=opened.artifact), name=f"{file.name} (opened)")
        for inputs in _batches(validation):
            outputs = device.run(handle, to_file_layout(inputs, file), raw=True)
            found = {value: outputs[output] for value, output in opened.values.items() if output in outputs}
            yield found | {value: found[value].astype(np.int16) - shifts[value] for value in found.keys() & shifts}
    except (DataError, DeviceError, ModelError):
        return  # the file itself has been measured: only a copy with more outputs is too much for this device


def _steps(simulated: Mapping[str, torch.Tensor], deployed: Mapping[str, Array]) -> Iterator[tuple[str, int]]:
    for value in simulated.keys() & deployed.keys():
        with contextlib.suppress(DeviceError):  # the file holds it in a shape that is not the graph's
            (layer,) = compare_layers({value: simulated[value].numpy()}, {value: deployed[value]})
            yield value, max(layer.parity.histogram)


def _times(ops: OpProfile) -> dict[str, float]:
    """By the node's name, which ONNX Runtime keeps and sometimes appends a token to; LiteRT has no names."""
    return {op.name.partition("_token_")[0]: op.milliseconds for op in ops.ops}


def _of_unit(nodes: tuple[str, ...], times: Mapping[str, float]) -> list[float]:
    return [times[node] for node in nodes if node in times]
