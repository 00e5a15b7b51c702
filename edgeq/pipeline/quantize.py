"""The middle stages: ranges from samples, and the plan from ranges."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch

from edgeq.calibration.absorption import absorb, absorbable
from edgeq.calibration.batch import at_once, cut
from edgeq.calibration.data import Dataset
from edgeq.calibration.divergence import Distance, distance, float_outputs
from edgeq.calibration.equalization import equalize, highest
from edgeq.calibration.methods import method
from edgeq.calibration.observers import BY_NAME
from edgeq.calibration.pairs import pairs
from edgeq.calibration.parts import Store
from edgeq.calibration.ranges import Ranges, observe
from edgeq.errors import UsageError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.pipeline.automatic import FINE, GOOD, MOSTLY, Candidate, Story, Trial, Workshop, search
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.one_thread import one_thread
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.plan.ops import IN_BLOCKS
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.store import digest, dump, restore
from edgeq.plan.validate import validate
from edgeq.progress import Reporter
from edgeq.run_folder import RunFolder

_BATCH = 64
#: Held-out samples that choose between methods, and samples that say how far a bounded channel reaches.
_JUDGES, _REACH = 256, 256


@dataclass(frozen=True, eq=False)
class Quantized:
    """What the stage decided.

    Attributes:
        model: the model that the plan is of: the same function on the samples, perhaps equalized or absorbed.
        plan: the quantization.
        story: what was tried.
    """

    model: Model
    plan: Plan
    story: Story


@one_thread()
def calibrate(
    options: Options, model: Model, skeleton: Skeleton, sets: Sets, folder: RunFolder, reporter: Reporter
) -> Ranges:
    """The ranges of all quantized values."""
    return _Stage(options, model, skeleton, sets, folder, reporter).ranges(model.graph, _observer(options))


@one_thread()
def quantize(
    options: Options,
    model: Model,
    skeleton: Skeleton,
    ranges: Ranges,
    sets: Sets,
    folder: RunFolder,
    reporter: Reporter,
) -> Quantized:
    """The plan, checked against its written spec; ``auto`` tries methods, cheapest first, while it is worth it."""
    stage = _Stage(options, model, skeleton, sets, folder, reporter)
    if options.method != "auto" or sets.probe is None:
        name = "nearest" if options.method == "auto" else options.method
        why = "too few samples to hold some out" if options.method == "auto" else ""
        return Quantized(
            model, stage.plan(name, model.graph, ranges), Story((Trial(name, None, kept=True),), None, why)
        )
    other_ranges = stage.other_ranges if options.observer == "auto" else None
    shop = Workshop(stage.plan, stage.distance, other_ranges, stage.equalized, stage.absorbed)
    found, story = search(shop, model.graph, ranges)
    story = replace(story, reason="; ".join(filter(None, (story.reason, _otherwise(options.bits, found.plan, story)))))
    return Quantized(model if found.graph is model.graph else replace(model, graph=found.graph), found.plan, story)


def _otherwise(asked: Bits, plan: Plan, story: Story) -> str:
    """What to do where static grids of activations cost most, between matrix products; or ""."""
    left = next(trial.loss for trial in story.trials if trial.kept)
    layers = [unit for unit in plan.units if unit.integer and unit.weight is not None]
    if story.activations is None or left is None or left <= GOOD or story.activations < MOSTLY * left:
        return ""
    if not all(unit.op in IN_BLOCKS and plan.skeleton.bits[unit.name].activations == FINE for unit in layers):
        return ""
    alone = replace(asked, activations=None)
    return f"with --bits {alone} ONNX Runtime and LiteRT choose the activations' scales for every input anew"


def _observer(options: Options) -> str:
    if options.observer != "auto":
        if options.observer not in BY_NAME:
            raise UsageError(f"--observer {options.observer}: choose from auto, {', '.join(BY_NAME)}")
        return options.observer
    # Sixteen steps are too few to spend them on outliers.
    return "mse" if (options.bits.activations or 16) <= 4 else "min-max"


@dataclass(frozen=True, eq=False)
class _Stage:
    """What can be computed of one run, each result stored under what it depends on."""

    options: Options
    model: Model
    skeleton: Skeleton
    sets: Sets
    folder: RunFolder
    reporter: Reporter

    def ranges(self, graph: Graph, observer: str) -> Ranges:
        """The ranges by that observer."""

        def compute() -> bytes:
            module = self.model.module if graph is self.model.graph else to_torch(graph)
            data = self.sets.calibration
            each = BY_NAME[observer]
            found = observe(module, data, self.skeleton, each, batch=self._at_once, progress=self.reporter.advance)
            return json.dumps(asdict(found)).encode()

        stored = json.loads(self.folder.stage("ranges", self._key(graph) | {"observer": observer}, compute))
        for part in ("ranges", "extremes", "half"):
            stored[part] = {group: (low, high) for group, (low, high) in stored[part].items()}
        return Ranges(**stored)

    def plan(self, name: str, graph: Graph, ranges: Ranges) -> Plan:
        """The plan of that method."""
        chosen = method(name)
        key = self._key(graph) | {"ranges": asdict(ranges), "method": name}

        def compute() -> bytes:
            made = chosen(
                graph,
                self.skeleton,
                ranges,
                self._calibration if chosen.rounding is not None else (),
                progress=lambda _, done, total: self.reporter.advance(done, total),
                store=None if chosen.first_order else self._kept(key),
                seed=self.options.seed,
            )
            return dump(made)

        plan = restore(self.folder.stage("plan", key, compute), self.skeleton)
        validate(graph, plan)
        return plan

    def _kept(self, key: dict[str, object]) -> Store:
        """Keeps what a method has done of its work, so that an interrupted run goes on there."""
        return lambda part, compute: self.folder.stage("part", key | {"part": part}, compute)

    def distance(self, found: Candidate, weights: bool) -> Distance:
        """How far a candidate's outputs are from the float model's on the probe samples."""

        def compute() -> bytes:
            measured = distance(found.graph, found.plan, self._judges, self._reference, weights=weights)
            return json.dumps(asdict(measured)).encode()

        key = self._key(found.graph) | {"plan": digest(found.plan), "weights": weights}
        stored = json.loads(self.folder.stage("held-out", key, compute))
        return Distance(stored["divergence"], tuple(stored["each"]))

    def other_ranges(self) -> Ranges:
        """The ranges by the observer that was not the first choice."""
        return self.ranges(self.model.graph, "min-max" if _observer(self.options) == "mse" else "mse")

    def equalized(self, graph: Graph, ranges: Ranges) -> tuple[Graph, Ranges] | None:
        """The graph with equalized weights and its ranges, by the observer of these ranges."""
        if not pairs(graph, bounded=True):
            return None
        made = equalize(graph, highest(graph, self._small(self.sets.calibration.take(_REACH))))
        return made, self._ranges_like(ranges, made)

    def absorbed(self, graph: Graph, ranges: Ranges) -> tuple[Graph, Ranges] | None:
        """The graph with high biases moved into the layers behind and its ranges, by the observer of these ranges."""
        if not absorbable(graph, self.skeleton):
            return None
        made = absorb(graph, self.skeleton, cut(graph, self._calibration))
        return None if made is graph else (made, self._ranges_like(ranges, made))

    def _ranges_like(self, ranges: Ranges, graph: Graph) -> Ranges:
        return self.ranges(graph, next(n for n, made in BY_NAME.items() if made.__name__ == ranges.observer))

    @cached_property
    def _calibration(self) -> list[tuple[torch.Tensor, ...]]:
        return self.model.batches(self.sets.calibration, _BATCH)

    @cached_property
    def _judges(self) -> list[tuple[torch.Tensor, ...]]:
        assert self.sets.probe is not None
        return self._small(self.sets.probe.take(_JUDGES))

    def _small(self, data: Dataset) -> list[tuple[torch.Tensor, ...]]:
        """Samples in batches of which no value is large."""
        return self.model.batches(data, self._at_once)

    @cached_property
    def _at_once(self) -> int:
        first = self.model.batches(self.sets.calibration.take(_BATCH), _BATCH)[0]
        return min(_BATCH, at_once(self.model.graph, self.model.module, first))

    @cached_property
    def _reference(self) -> list[tuple[torch.Tensor, ...]]:
        return float_outputs(self.model.graph, self._judges)

    def _key(self, graph: Graph) -> dict[str, object]:
        return {
            "model": self.model.digest,
            "changed": self._changed(graph),
            "bits": [[unit, str(bits)] for unit, bits in self.skeleton.bits.items()],
            "seed": self.options.seed,
            "data": self.sets.digests["calibration"],
            "probe": 0 if self.sets.probe is None else len(self.sets.probe),
            "per_channel": self.skeleton.per_channel,
            "symmetric": self.skeleton.symmetric,
            "power_of_two": self.skeleton.power_of_two,
        }

    def _changed(self, graph: Graph) -> str:
        """A digest of the constants that differ from the model's."""
        own = self.model.graph.model.graph.initializers
        digest = hashlib.sha256()
        for name, value in graph.model.graph.initializers.items():
            if value.const_value is not None and value.const_value is not own[name].const_value:
                digest.update(name.encode() + value.const_value.tobytes())
        return digest.hexdigest()
