"""The candidates of the benchmark: which settings each model gets, and the states of one candidate."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from measures import Trace
from subjects import Subject

from edgeq.basin.cost import Options
from edgeq.basin.divergence import Reference, altitude, refer
from edgeq.basin.landscape import Batches, Landscape, Point
from edgeq.basin.reading import Reading, read
from edgeq.basin.repair import repair
from edgeq.basin.simulated import SimulatedModel, landscape_of
from edgeq.basin.verdict import Thresholds
from edgeq.calibration.methods import METHODS
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges, observe
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.macs import macs
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide

TAU = 0.05
#: The method that stands for better rounding.
BETTER = "gptq+variance"
NO_RANGES = Ranges({}, {}, 0, "none")


@dataclass(frozen=True)
class Setting:
    """One way to quantize."""

    bits: str
    granularity: str
    method: str

    @property
    def key(self) -> str:
        return f"{self.bits}/{self.granularity}/{self.method}"


#: Few settings for the models whose cases cost minutes.
_FEW: dict[str, tuple[str, ...]] = {
    "resnet20": ("w4/channel/nearest", "w3/channel/nearest", "w2/channel/nearest", "w4/tensor/nearest",
                 "w3/tensor/nearest", "w3/channel/gptq", "w2/channel/gptq", "w4a4/channel/nearest"),
    "stories260k": ("w4/channel/nearest", "w3/channel/nearest", "w2/channel/nearest", "w4/tensor/nearest",
                    "w3/channel/gptq", "w2/channel/gptq"),
    "ad_autoencoder": ("w8a8/channel/nearest", "w4/channel/nearest", "w3/channel/nearest", "w2/channel/nearest"),
    # From here on: cases that were measured after the rules were frozen.
    "resnet20_embedding": ("w8a8/channel/nearest", "w3/channel/nearest", "w2/channel/gptq", "w4a8/channel/nearest",
                           "w4/tensor/nearest", "w4a4/channel/nearest", "w2/channel/nearest", "w3/channel/gptq",
                           "w6/channel/nearest", "w4/channel/nearest", "w3/tensor/nearest", "w8a4/channel/nearest"),
    "resnet56": ("w8a8/channel/nearest", "w3/channel/nearest", "w2/channel/gptq", "w4a8/channel/nearest",
                 "w4a4/channel/nearest", "w4/tensor/nearest", "w3/channel/gptq", "w6/channel/nearest",
                 "w2/channel/nearest", "w4/channel/nearest"),
    "efficientnet_lite0": ("w8a8/channel/nearest", "w4/channel/nearest", "w8a8/tensor/nearest", "w3/channel/gptq",
                           "w4/channel/gptq"),
    "ultraface": ("w8a8/channel/nearest", "w3/channel/nearest", "w2/channel/gptq", "w4a8/channel/nearest",
                  "w4a4/channel/nearest", "w8a8/tensor/nearest", "w4/tensor/nearest", "w6/channel/nearest"),
}  # fmt: skip


def settings(name: str) -> Iterator[Setting]:
    """The settings of a model; the large ones get fewer."""
    if name in _FEW:
        yield from (Setting(*text.split("/")) for text in _FEW[name])
        return
    for bits in (2, 3, 4, 5, 6, 8):
        yield Setting(f"w{bits}", "channel", "nearest")
    for bits in (2, 3, 4, 5, 6):
        yield Setting(f"w{bits}", "tensor", "nearest")
    for bits in (2, 3, 4):
        yield Setting(f"w{bits}", "channel", "gptq")
    for text in ("w8a8", "w4a8", "w3a8", "w2a8", "w8a4", "w4a4", "w3a4", "w2a4"):
        yield Setting(text, "channel", "nearest")


@dataclass(eq=False)
class Bench:
    """One model, ready for its cases."""

    subject: Subject

    def __post_init__(self) -> None:
        s = self.subject
        self.module = to_torch(s.graph)
        self.calibration = batches(s.training[: s.calibration], min(s.batch, 32))
        self.training = batches(s.training, s.batch)
        self.fixing = batches(s.training[: max(2 * s.calibration, 60)], s.batch)
        self.probe = batches(s.probe, s.batch)
        first, _ = landscape_of(s.graph, nearest(s.graph, decide(s.graph, Request(Bits(8, None))), NO_RANGES))
        self.reference = refer(first, self.probe, s.task)
        size = sum(macs(s.graph, shapes(s.graph, self.module)).values())
        self.probe_batch = Options.for_size(size, s.task, Thresholds())[0].batch
        self.trace: Trace | None = None
        self.floating: float | None = None

    def plan(self, setting: Setting) -> Plan:
        skeleton = decide(
            self.subject.graph, Request(Bits.parse(setting.bits), per_channel=setting.granularity == "channel")
        )
        observed = skeleton.groups
        ranges = observe(self.module, self.calibration, skeleton) if observed else NO_RANGES
        if setting.method == "nearest":
            return nearest(self.subject.graph, skeleton, ranges)
        method = next(method for method in METHODS if method.name == BETTER)
        return method(self.subject.graph, skeleton, ranges, self.fixing)

    def score(self, landscape: Landscape, point: Point, blend: float) -> float:
        x, y = self.subject.test
        with torch.no_grad():
            found = [landscape.run(point, part, blend) for part in batches(x, self.subject.batch)]
        return self.subject.score(tuple(torch.cat(parts) for parts in zip(*found, strict=True)), y)

    def float_score(self, landscape: Landscape) -> float:
        if self.floating is None:
            self.floating = self.score(landscape, landscape.origin, 0.0)
        return self.floating


def batches(x: torch.Tensor, size: int) -> Batches:
    return [(part,) for part in x.split(size)]


@dataclass(frozen=True, eq=False)
class States:
    """The states of one candidate, with their readings.

    Attributes:
        model: behind the candidate.
        raw: as given.
        repaired: its statistics repaired.
        rounded: the best of better rounding.
        rounded_repaired: whether that is the repaired one.
        plan: of better rounding, unrepaired.
        readings: raw, repaired, rounded.
        start: the lowest of the three, from which training is tried.
    """

    model: SimulatedModel
    raw: Landscape
    repaired: Landscape
    rounded: Landscape
    rounded_repaired: bool
    plan: Plan
    readings: tuple[Reading, Reading, Reading]

    @property
    def start(self) -> Landscape:
        heights = [_height(reading) for reading in self.readings]
        return (self.raw, self.repaired, self.rounded)[heights.index(min(heights))]


def _height(reading: Reading) -> float:
    return reading.D.estimate if reading.finite else float("inf")


def states(bench: Bench, setting: Setting, reference: Reference) -> States:
    """The candidate, its repair, and better rounding on the same grid (GPTQ with variances matched) as it is or
    repaired, whichever is lower on the probe samples."""
    raw, model = landscape_of(bench.subject.graph, bench.plan(setting))
    fixed = repair(model, raw, bench.fixing)
    plan = bench.plan(Setting(setting.bits, setting.granularity, "gptq"))
    plain, behind = landscape_of(bench.subject.graph, plan)
    first, second = plain, repair(behind, plain, bench.fixing)
    blend = 1.0 if plain.activations else 0.0
    heights = [float(altitude(c, c.deployed, reference, blend)[0].mean()) for c in (first, second)]
    is_repaired = bool(np.isfinite(heights[1]) and not heights[1] >= heights[0])
    rounded = second if is_repaired else first
    readings = (read(raw, reference, TAU), read(fixed, reference, TAU), read(rounded, reference, TAU))
    return States(model, raw, fixed, rounded, is_repaired, plan, readings)
