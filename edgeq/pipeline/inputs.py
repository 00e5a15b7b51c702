"""The first stages: the model as a graph, the devices it is for, and its samples in sets that are kept apart."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import fx

from edgeq.calibration.data import Batch, Dataset, open_dataset
from edgeq.calibration.specs import input_specs
from edgeq.calibration.split import refuse_overlap, split
from edgeq.devices import Profile, load_profile
from edgeq.devices.artifact import Artifact
from edgeq.devices.lint import lint
from edgeq.errors import DataError, PlanError, UsageError
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes.pairs_to_clips import pairs_to_clips
from edgeq.graph.sources import load_model
from edgeq.pipeline.onnx_artifact import onnx_artifact
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request

_PROBE = 512
_TYPES = {"float32": torch.float32, "int64": torch.int64, "int32": torch.int32, "bool": torch.bool}


@dataclass(frozen=True, eq=False)
class Model:
    """The model in canonical form, with what every later stage asks of it.

    Attributes:
        graph: the model.
        floating: it as an ONNX file.
    """

    graph: Graph
    floating: Artifact

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical float model."""
        return self.floating.sha256

    @cached_property
    def module(self) -> fx.GraphModule:
        """The float model in PyTorch."""
        return to_torch(self.graph)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of one sample's values."""
        return shapes(self.graph, self.module)

    def batches(self, dataset: Dataset, size: int) -> list[tuple[torch.Tensor, ...]]:
        """Samples as tensors in the order of the graph's inputs, held in memory."""
        return [self._tensors(batch) for batch in dataset.batches(size)]

    def joined(self, dataset: Dataset) -> tuple[torch.Tensor, ...]:
        """All samples of a set as one batch."""
        return self._tensors(dataset.load())

    def _tensors(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(batch.inputs[name(value)]) for value in self.graph.inputs)


@dataclass(frozen=True, eq=False)
class Sets:
    """Samples for calibration, for the diagnostic's probe, and for evaluation; no sample is in two of them.

    Attributes:
        calibration: the ranges come from these.
        probe: the diagnostic and recovery judge on these; None if there are too few samples.
        evaluation: the release is judged on these.
        data: all that was given to calibrate with, the other sets perhaps among it.
    """

    calibration: Dataset
    probe: Dataset | None
    evaluation: Dataset
    data: Dataset

    def training(self) -> Dataset:
        """What recovery may train on: all of the data whose content is in neither probe nor evaluation."""
        apart = {*self.evaluation.hashes, *(self.probe.hashes if self.probe is not None else ())}
        return self.data.subset([i for i, digest in enumerate(self.data.hashes) if digest not in apart])

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each set's samples, and of the evaluation's labels."""
        found = {
            "calibration": _digest(self.calibration),
            "evaluation": _digest(self.evaluation),
        }
        labels = self.evaluation.labels()
        if labels is not None:
            found["labels"] = hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
        return found


def _digest(dataset: Dataset) -> str:
    return hashlib.sha256(b"".join(dataset.hashes)).hexdigest()


def open_model(options: Options, folder: Path | None = None) -> Model:
    """Read the model; see :func:`edgeq.graph.sources.load_model` for what is refused.

    Args:
        options: of the run.
        folder: where a large model may lie as a float ONNX file; None refuses one that does not fit into memory whole.
    """
    types = (*options.input_types, *["float32"] * len(options.input_shapes))
    example = [torch.zeros(d, dtype=_TYPES[t]) for d, t in zip(options.input_shapes, types, strict=False)] or None
    graph = load_model(
        options.model, weights=options.weights, example=example, shapes=options.shapes, constants=options.constants
    )
    if any(node.op_type == "DequantizeLinear" for node in graph.nodes):
        graph = pairs_to_clips(graph)  # another tool has quantized it: here it is quantized anew
    model = Model(graph, onnx_artifact(graph, None, None if folder is None else folder / "float.onnx"))
    model.module  # noqa: B018  # an unknown op is refused here, before any sample is read
    return model


def open_profiles(options: Options) -> tuple[Profile, ...]:
    """The device profiles, each once."""
    return tuple(load_profile(name) for name in dict.fromkeys(options.devices))


def request(options: Options, profiles: tuple[Profile, ...]) -> Request:
    """What options and devices together ask of the plan: the strictest of all.

    Raises:
        UsageError: recovery was asked for where it cannot learn.
    """
    per_channel = all(profile.granularity == "per-channel" for profile in profiles)
    powers = any(profile.scales == "power-of-two" for profile in profiles)
    if options.recover_budget is not None and (powers or options.bits.block is not None):
        what = "powers of two" if powers else "of blocks in half precision"
        raise UsageError(f"--recover-budget: recovery learns scales, and here they are {what}; leave it out")
    return Request(
        options.bits,
        options.overrides,
        per_channel,
        symmetric=any(profile.zero_points == "zero" for profile in profiles),
        power_of_two=powers,
    )


def check_devices(skeleton: Skeleton, profiles: tuple[Profile, ...]) -> tuple[str, ...]:
    """What the devices would not run as hoped, one sentence for each kind of op; before any work is done.

    Raises:
        PlanError: a device would not run the files at all.
    """
    stored = replace(skeleton, bits={unit: _stored(bits) for unit, bits in skeleton.bits.items()})
    ops = {unit.name: unit.op for unit in skeleton.units}
    notes: list[str] = []
    for profile in profiles:
        findings = lint(profile, stored)
        errors = [finding.message for finding in findings if finding.level == "error" and not finding.unit]
        if errors:
            raise PlanError(errors[0])
        kinds: dict[tuple[str, str], list[str]] = {}
        for finding in findings:
            kinds.setdefault((ops.get(finding.unit, ""), finding.message.replace(finding.unit, "")), []).append(
                finding.message
            )
        for (op, _), messages in kinds.items():
            more = f" (and {len(messages) - 1} more {op})" if len(messages) > 1 else ""
            notes.append(f"{messages[0]}{more}")
    return tuple(dict.fromkeys(notes))


def _stored(bits: Bits) -> Bits:
    # Codes of fewer bits are stored as int8 on the coarser grid, which every int8 device runs; those of layers in
    # float in 4 or 8 bits.
    if bits.weights is not None and bits.activations is None:
        return replace(bits, weights=4 if bits.weights <= 4 else 8)
    if bits.weights is None or bits.activations is None or bits.activations > 8:
        return bits
    return Bits(8, 8)


def open_sets(options: Options, graph: Graph) -> Sets:
    """Open, divide and check the samples.

    Raises:
        DataError: too few samples, or one sample in two sets.
    """
    specs = input_specs(graph.inputs)
    data = open_dataset(options.data, specs, options.preprocessing)
    if options.evaluation is None:
        return _divide(data, options)
    evaluation = open_dataset(options.evaluation, specs, options.preprocessing)
    if options.evaluation_samples is not None:
        evaluation = evaluation.take(options.evaluation_samples, options.seed)
    drawn = data.take(options.samples + _PROBE, options.seed)
    calibration_count = min(options.samples, max(1, len(drawn) * 4 // 5))
    parts = split(
        drawn, {"calibration": calibration_count, "probe": _distinct(drawn) - calibration_count}, options.seed
    )
    sets = Sets(parts["calibration"], parts["probe"] if len(parts["probe"]) else None, evaluation, data)
    refuse_overlap({"calibration": drawn, "evaluation": evaluation})
    return sets


def _divide(data: Dataset, options: Options) -> Sets:
    total = _distinct(data)
    if total < 4:
        raise DataError(f"{data.name} has {total} distinct samples; 4 at least are needed, 1,000 are better")
    calibration = min(options.samples, total // 2)
    probe = min(_PROBE, total // 8)
    evaluation = total - calibration - probe
    if options.evaluation_samples is not None:
        evaluation = min(evaluation, options.evaluation_samples)
    parts = split(data, {"calibration": calibration, "probe": probe, "evaluation": evaluation}, options.seed)
    return Sets(parts["calibration"], parts["probe"] if probe else None, parts["evaluation"], data)


def _distinct(dataset: Dataset) -> int:
    return len(set(dataset.hashes))
