"""A release as data: all that the gate judges and the report shows. The pipeline builds it; nothing here computes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.measurement import Measurement


@dataclass(frozen=True)
class Artifact:
    """One deployable file.

    Attributes:
        name: the file's name in the release folder (model.onnx, model.tflite).
        sha256: of its bytes, 64 hexadecimal digits.
        size_bytes: its length.
        part_of: the artefact whose constants it holds, because one file cannot; "" for a model.
    """

    name: str
    sha256: str
    size_bytes: int
    part_of: str = ""


@dataclass(frozen=True, eq=False)
class Slices:
    """One way to cut the evaluation samples into groups that the mean could hide.

    Attributes:
        column: what the groups are by (class, or a column of the user's).
        names: the groups' names.
        ids: int64 (samples,), each sample's group as an index into names.
    """

    column: str
    names: tuple[str, ...]
    ids: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.ids.size and (self.ids.min() < 0 or self.ids.max() >= len(self.names)):
            raise ValueError(f"slices by {self.column!r}: an id has no name")


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """What the models were evaluated on.

    Attributes:
        digest: SHA-256 of the samples and labels as the model sees them; pairs this release with the last one.
        samples: how many.
        slices: the ways to cut them; empty where there are no labels.
    """

    digest: str
    samples: int
    slices: tuple[Slices, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """One line of "did I get what I asked?".

    Attributes:
        artifact: the file that was read back.
        item: what was compared (weights of conv1, integer share of MACs, opset ...).
        asked: what the plan says, as text.
        delivered: what the file holds, as text.
        kept: whether the two agree.
        reason: why not, or why a difference is allowed; "" where there is nothing to say.
    """

    artifact: str
    item: str
    asked: str
    delivered: str
    kept: bool
    reason: str = ""


@dataclass(frozen=True)
class Layer:
    """One row of the per-layer table. None is "not measured", shown as an empty cell.

    Attributes:
        name: the unit's name in the plan.
        op: its ONNX op type.
        bits: as the user writes them (w8a8), "f" for float.
        integer: whether it computes on integers.
        module: its PyTorch module path, or "".
        reason: why it is float, or how it came to be integer.
        macs: multiply-accumulates of one sample.
        parameters: number of weights and biases.
        sqnr_db: signal to quantization noise of its output in decibels, all layers before it quantized too.
        blame: its share of the loss (`edgeq diagnose`).
        half_width: half-width of its basin, in weight units.
        safe_bits: the fewest safe bits of its weights.
        parity_steps: largest difference of simulated and deployed output on any device, in steps.
        latency_ms: its time on the first device whose runtime tells it.
    """

    name: str
    op: str
    bits: str
    integer: bool
    module: str = ""
    reason: str = ""
    macs: int | None = None
    parameters: int | None = None
    sqnr_db: float | None = None
    blame: float | None = None
    half_width: float | None = None
    safe_bits: int | None = None
    parity_steps: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class OpTime:
    """Time of one kind of op on one device: milliseconds per inference and number of calls.

    The kernel is integer, float, quantize (only converts between them), layout (only moves data) or other.
    """

    device: str
    op: str
    milliseconds: float
    calls: int
    kernel: str


@dataclass(frozen=True)
class RecoveryPoint:
    """One held-out evaluation during recovery."""

    step: int
    loss: float
    metric: float | None = None


@dataclass(frozen=True)
class Recovery:
    """What recovery did: its curve on held-out samples, and whether its result was taken."""

    method: str
    points: tuple[RecoveryPoint, ...]
    accepted: bool
    reason: str


@dataclass(frozen=True)
class Picture:
    """A picture made elsewhere (a basin), as SVG text, with the words that replace it."""

    title: str
    alt: str
    svg: str


@dataclass(frozen=True, eq=False)
class Release:
    """Everything about one release.

    Attributes:
        model: its name; not a path.
        bits: the number format asked for.
        options: every option that shaped it, JSON values only, no paths.
        versions: edgeq, Python and libraries -> version.
        command: a command that reproduces it, without local paths.
        devices: the profiles that were asked for; each must have been measured.
        artifacts: the deployable files.
        evaluation: what it was evaluated on.
        measurements: one for each device profile.
        deliveries: the audit, all files together.
        layers: rows of the per-layer table.
        op_times: latency by op and device.
        diagnosis: the object that `edgeq diagnose --json` prints, or None.
        recovery: or None if there was none.
        quantization: what was tried to choose the integers (`trials` with method, loss and kept; `activations`, the
            loss with the weights left in float; `reason`), or None.
        doctor: the calibration doctor's findings (kind, where, measured, limit, advice).
        pictures: basin pictures.
        notes: sentences the reader should see (a calibration doctor's warning ...).
        device_limits: profile -> budget -> limit, what the device profiles themselves state a model may cost.
    """

    model: str
    bits: str
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    devices: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    evaluation: EvaluationData
    measurements: tuple[Measurement, ...]
    deliveries: tuple[Delivery, ...]
    layers: tuple[Layer, ...] = ()
    op_times: tuple[OpTime, ...] = ()
    diagnosis: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    doctor: tuple[Mapping[str, Any], ...] = ()
    recovery: Recovery | None = None
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = field(default=())
    device_limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def measurement(self, profile: str) -> Measurement | None:
        """What was measured on a profile, or None."""
        return next((m for m in self.measurements if m.device.profile == profile), None)
