"""Validate a file that any tool made against its float model: metric, agreement, and parity between devices.

Nothing is known of the file but what its runtime says: its inputs are matched by name (or, failing that, by position),
and its layout by shape.
"""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibration.data import Dataset, open_dataset
from edgeq.calibration.preprocessing import Preprocessing
from edgeq.calibration.specs import InputSpec, input_specs
from edgeq.devices import Device, Handle, Profile, load_profile, open_device, parity
from edgeq.devices.profiling import check_kind, default_device
from edgeq.errors import DataError, DeviceError
from edgeq.exporters import onnx as onnx_format
from edgeq.graph.sources import load_model
from edgeq.measurement import DeviceInfo, Evaluation, Interval, Parity
from edgeq.metric import PER_TOKEN, default_metric, evaluate
from edgeq.pipeline.validate import join_outputs
from edgeq.release.statistics.shares import clopper_pearson

Array = npt.NDArray[Any]
_BATCH = 100
#: Channels first -> channels last, by rank.
_CHANNELS_LAST: Mapping[int, tuple[int, ...]] = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


@dataclass(frozen=True, eq=False)
class Validated:
    """A file on one device.

    Attributes:
        device: where.
        deployed: its score.
        agreement: share of the float model's decisions that it makes; None where there are no decisions.
        parity: against the first device of all, in steps of the output's grid; None for the first itself.
    """

    device: DeviceInfo
    deployed: Evaluation
    agreement: Interval | None
    parity: Parity | None


@dataclass(frozen=True, eq=False)
class ArtifactValidation:
    """A file on all devices.

    Attributes:
        reference: the float model's score, in ONNX Runtime on this machine.
        results: by device, those that could be used.
        failures: device -> why it could not be used.
    """

    reference: Evaluation
    results: tuple[Validated, ...]
    failures: Mapping[str, str]


def validate_artifact(
    artifact: Path,
    model: str,
    data: str,
    devices: tuple[str, ...] = (),
    *,
    metric: str | None = None,
    samples: int | None = None,
    preprocessing: Preprocessing | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> ArtifactValidation:
    """Run a file and its float model over the samples.

    Args:
        artifact: the .onnx or .tflite file.
        model: the float model: .onnx, .pt2 or package.module:factory.
        data: samples with or without labels.
        devices: profiles; this machine's own if empty.
        metric: of :mod:`edgeq.metric`; chosen by task if None.
        samples: at most so many.
        preprocessing: of images.
        shapes: fixed input shapes.
        seed: of the draw of samples.

    Raises:
        EdgeqError: the model, the samples or the file are unusable. A device that fails is in ``failures`` instead.
    """
    profiles = tuple(load_profile(name) for name in devices or (default_device(artifact, platform.machine()),))
    for profile in profiles:
        check_kind(profile, artifact)
    graph = load_model(model, shapes=shapes or {})
    specs = input_specs(graph.inputs)
    dataset = open_dataset(data, specs, preprocessing)
    dataset = dataset if samples is None else dataset.take(samples, seed)
    labels = dataset.labels()
    host = load_profile(default_device(Path("model.onnx"), platform.machine()))
    with open_device(host) as device:
        reference = _outputs(device, device.load(onnx_format.export(graph, None), name="the float model"), dataset)
    chosen = metric or default_metric(labels, reference)
    floating = evaluate(chosen, reference, labels, reference)
    outputs: dict[str, Array] = {}
    results: list[Validated] = []
    failures: dict[str, str] = {}
    for profile in profiles:
        try:
            found, step, info = _on(profile, artifact, dataset)
        except DeviceError as error:
            failures[profile.name] = str(error)
            continue
        if found.shape != reference.shape:
            raise DataError(f"{artifact.name} gives outputs of shape {found.shape}, the float model {reference.shape}")
        scored = evaluate(chosen, found, labels, reference)
        first = next(iter(outputs.values()), None)
        decides = scored.decisions is not None or chosen in PER_TOKEN
        compared = None if first is None else parity(first, found, step=step, decisions=decides)
        outputs[profile.name] = found
        results.append(Validated(info, scored, _agreement(floating, scored), compared))
    return ArtifactValidation(floating, tuple(results), failures)


def _on(profile: Profile, artifact: Path, dataset: Dataset) -> tuple[Array, float, DeviceInfo]:
    with open_device(profile) as device:
        handle = device.load(artifact)
        found = _outputs(device, handle, dataset)
        scale = handle.outputs[0].scale
        # A float output has no steps: one 255th of its extent reads alike.
        extent = float(found.max() - found.min())
        return found, scale or extent / 255 or 1.0, device.info


def _outputs(device: Device, handle: Handle, dataset: Dataset) -> Array:
    """The first output of all samples, as real values."""
    matched = match_inputs(handle, dataset.specs)
    first = handle.outputs[0].name
    parts = [
        device.run(handle, {file: _arranged(inputs[model], order) for model, (file, order) in matched.items()})[first]
        for inputs in _batches(dataset)
    ]
    return join_outputs(parts, dataset)


def _batches(dataset: Dataset) -> Iterator[dict[str, Array]]:
    for batch in dataset.batches(_BATCH):
        yield batch.inputs


def _arranged(array: Array, order: tuple[int, ...] | None) -> Array:
    return array if order is None else np.ascontiguousarray(array.transpose(order))


def match_inputs(handle: Handle, specs: tuple[InputSpec, ...]) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """The model's input -> the file's input, and how the axes are permuted for it.

    Raises:
        DataError: they do not fit.
    """
    names = [tensor.name for tensor in handle.inputs]
    if len(names) != len(specs):
        raise DataError(f"{handle.name} has the inputs {', '.join(names)}, the float model {len(specs)} inputs")
    by_name = sorted(names) == sorted(spec.name for spec in specs)
    found: dict[str, tuple[str, tuple[int, ...] | None]] = {}
    for position, spec in enumerate(specs):
        tensor = handle.inputs[names.index(spec.name) if by_name else position]
        order = _CHANNELS_LAST.get(len(spec.shape))
        if _same(spec.shape, tensor.shape):
            found[spec.name] = tensor.name, None
        elif order is not None and _same(tuple(spec.shape[axis] for axis in order), tensor.shape):
            found[spec.name] = tensor.name, order
        else:
            raise DataError(
                f"{handle.name}: input {tensor.name!r} of shape {tensor.shape} is not the float model's {spec.name!r} "
                f"of shape {spec.shape}, in either layout"
            )
    return found


def _same(model: tuple[int | None, ...], file: tuple[int | None, ...]) -> bool:
    """Whether two shapes agree but for the batch."""
    return len(model) == len(file) and all(
        None in pair or pair[0] == pair[1] for pair in zip(model[1:], file[1:], strict=True)
    )


def _agreement(reference: Evaluation, deployed: Evaluation) -> Interval | None:
    if reference.decisions is None or deployed.decisions is None:
        return None
    same = reference.decisions == deployed.decisions
    low, high = clopper_pearson(int(same.sum()), same.size, 0.95)
    return Interval(float(same.mean()), low, high)
