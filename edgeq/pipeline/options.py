"""All that shapes a run of ``edgeq convert``; the same options and inputs give the same bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeq.calibration.preprocessing import Preprocessing
from edgeq.plan.bits import Bits
from edgeq.release.budgets import Budgets


@dataclass(frozen=True)
class Options:
    """One run.

    Attributes:
        model: path of an ``.onnx`` or ``.pt2`` file, or ``package.module:factory``.
        data: samples to calibrate with (and to evaluate on, if there are no others): see edgeq.calibration.data.
        evaluation: samples to evaluate on.
        output: the release folder.
        weights: state dict of a factory.
        input_shapes: example shapes of a factory's inputs.
        input_types: their element types (float32, int64); float32 for those that are not named.
        shapes: fixed shapes by input name.
        constants: inputs that are fixed to a number, by name.
        preprocessing: of image folders and pixels.
        samples: how many to calibrate with.
        evaluation_samples: at most so many to evaluate on; None for all.
        bits: the number format.
        auto_bits: choose each layer's bits of weights; ``bits`` is then what the rest of the model has.
        max_size: with auto_bits, bytes that all weights may take, packed; None for the fewest that stay accurate.
        overrides: (glob, bits) of single layers.
        observer: how ranges are chosen from what was seen; auto takes mse for 4-bit activations, else min-max.
        method: how weights are rounded: a name of edgeq.calibration.methods, or auto.
        devices: profiles to validate on, by name or path.
        metric: name of the metric, or None to choose by task.
        io: what the TFLite file takes and gives.
        input_layout: how the files take images: "nhwc", "nchw", or "auto" (TFLite with the channels last, as its
            kernels do, ONNX as the model).
        recover_budget: how long recovery may train (``2min``, ``500steps``); None leaves it out.
        diagnose: run the basin-exit diagnostic always, never, or (None) when a check of quality does not pass.
        latency_runs: timed pairs on each device; 0 leaves latency out.
        budgets: what the gate allows.
        device_budgets: profile -> limits that replace those on that device.
        seed: of everything random.
    """

    model: str
    data: str
    output: Path
    evaluation: str | None = None
    weights: Path | None = None
    input_shapes: tuple[tuple[int, ...], ...] = ()
    input_types: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    samples: int = 512
    evaluation_samples: int | None = None
    bits: Bits = field(default_factory=lambda: Bits(8, 8))
    auto_bits: bool = False
    max_size: float | None = None
    overrides: tuple[tuple[str, Bits], ...] = ()
    observer: str = "auto"
    method: str = "auto"
    devices: tuple[str, ...] = ("cpu-onnxruntime", "cpu-litert")
    metric: str | None = None
    io: Literal["float32", "int8"] = "int8"
    input_layout: Literal["auto", "nchw", "nhwc"] = "auto"
    recover_budget: str | None = None
    diagnose: bool | None = None
    latency_runs: int = 200
    budgets: Budgets = field(default_factory=Budgets)
    device_budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0

    @property
    def number_format(self) -> str:
        """The number format as the user wrote it."""
        return "auto" if self.auto_bits else str(self.bits)
