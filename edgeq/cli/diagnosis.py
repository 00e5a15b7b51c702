"""From files to a diagnosis: what ``edgeq diagnose`` does between its options and its output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from edgeq.basin.diagnose import Cost, Diagnosis, Options, Rounding, diagnose
from edgeq.basin.divergence import Task
from edgeq.basin.foreign import read_foreign
from edgeq.basin.landscape import Batches, Landscape, Point
from edgeq.basin.remedy import remedy
from edgeq.basin.repair import repair
from edgeq.basin.simulated import SimulatedModel, landscape_of
from edgeq.basin.verdict import Thresholds
from edgeq.calibration.data import Dataset, open_dataset
from edgeq.calibration.methods import METHODS
from edgeq.calibration.nearest import nearest
from edgeq.calibration.preprocessing import Preprocessing
from edgeq.calibration.ranges import Ranges, observe
from edgeq.calibration.specs import input_specs
from edgeq.calibration.split import split
from edgeq.errors import DataError
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.macs import macs
from edgeq.graph.sources.load import load_model
from edgeq.plan import rules
from edgeq.plan.bits import Bits

Say = Callable[[str], None]
_FEWEST = 16
#: The trial of better rounding.
_TRIAL, _TRIAL_SAMPLES = "gptq+variance", 128


@dataclass(frozen=True)
class Request:
    """The options of ``edgeq diagnose``, in their help's words."""

    model: str
    data: str
    candidate: Path | None = None
    bits: Bits = field(default_factory=lambda: Bits(8, 8))
    overrides: tuple[tuple[str, Bits], ...] = ()
    per_channel: bool = True
    task: Task | None = None
    samples: int | None = None
    tolerated: float = 0.01
    trial: bool = True
    pictures: Path | None = None
    weights: Path | None = None
    input_shapes: tuple[tuple[int, ...], ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    batch: int = 32
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """A diagnosis with what to do and what was drawn."""

    diagnosis: Diagnosis
    remedies: tuple[str, ...]
    pictures: tuple[Path, ...]


def diagnose_files(request: Request, say: Say) -> Found:
    """Load, quantize or read back, and diagnose."""
    example = [torch.zeros(shape) for shape in request.input_shapes] or None
    graph = load_model(request.model, weights=request.weights, example=example, shapes=request.shapes)
    data = open_dataset(request.data, input_specs(graph.inputs), request.preprocessing)
    module = to_torch(graph)
    size = sum(macs(graph, shapes(graph, module)).values())
    options, count = Options.for_size(size, request.task, Thresholds(tolerated=request.tolerated), request.seed)
    training, probe = _divide(data, request.samples or count, request.seed)
    batches, labels = _load(probe, request.batch)
    training_batches, _ = _load(training, request.batch)
    landscape, model, rounding = _landscape(request, graph, training, training_batches, say)

    def announce(cost: Cost) -> None:
        say(f"{len(probe)} probe samples, at most {cost.passes} passes of a sample: about {cost.seconds:.0f} s")

    found = diagnose(
        landscape,
        batches,
        training=training_batches,
        labels=labels,
        repair=lambda candidate: repair(model, candidate, training_batches),
        rounding=rounding if request.trial else None,
        options=options,
        announce=announce,
        progress=lambda what, done, total: say(f"  {100 * done / max(total, 1):3.0f} %  {what}"),
    )
    blamed = [layer.name for layer in found.layers]
    safe = {layer.name: None if layer.width is None else layer.width.safe_bits for layer in found.layers}
    command = f"edgeq convert {request.model} --data {request.data} --bits {request.bits}"
    drawn: tuple[Path, ...] = ()
    if request.pictures is not None:
        drawn = _draw(found, batches, request.pictures, say)
    return Found(found, remedy(found.verdict, command, blamed, safe), drawn)


def _draw(found: Diagnosis, batches: Batches, folder: Path, say: Say) -> tuple[Path, ...]:
    from edgeq.basin.divergence import refer
    from edgeq.basin.pictures import draw
    from edgeq.basin.valley import take_slice

    few = refer(found.landscape, batches[:1], found.task)
    others: dict[str, Point] = {}
    if found.probe is not None:
        others[f"{found.probe.steps[-1]} steps of training"] = found.probe.point
    if found.rounded_point is not None:
        others["better rounding"] = found.rounded_point
    say("  pictures")
    return draw(found, folder, take_slice(found.landscape, few, others))


def _landscape(
    request: Request, graph: Graph, training: Dataset, batches: Batches, say: Say
) -> tuple[Landscape, SimulatedModel, Rounding | None]:
    """The candidate, the model behind it, and the trial of better rounding where we choose the grids ourselves."""
    if request.candidate is not None:
        foreign = read_foreign(graph, load_model(request.candidate, shapes=request.shapes))
        if foreign.unmatched:
            say(f"in float, or not recognized in the candidate: {', '.join(foreign.unmatched)}")
        return foreign.landscape, foreign.model, None
    skeleton = rules.decide(graph, rules.Request(request.bits, request.overrides, request.per_channel))
    ranges = Ranges({}, {}, 0, "none")
    if skeleton.groups:
        ranges = observe(to_torch(graph), training, skeleton, batch=request.batch)

    def rounding() -> Landscape:
        method = next(method for method in METHODS if method.name == _TRIAL)
        few = batches[: max(1, _TRIAL_SAMPLES // request.batch)]
        return landscape_of(graph, method(graph, skeleton, ranges, few))[0]

    landscape, model = landscape_of(graph, nearest(graph, skeleton, ranges))
    return landscape, model, rounding


def _divide(data: Dataset, samples: int, seed: int) -> tuple[Dataset, Dataset]:
    """Samples to calibrate, repair and train on, and others to judge by."""
    drawn = data.take(2 * samples, seed)
    distinct = len(set(drawn.hashes))
    if distinct < _FEWEST:
        raise DataError(
            f"{data.name} has {distinct} distinct samples; the diagnosis needs {_FEWEST}, and 512 are better"
        )
    half = min(samples, distinct // 2)
    parts = split(drawn, {"training": distinct - half, "probe": half}, seed)
    return parts["training"], parts["probe"]


def _load(data: Dataset, size: int) -> tuple[Batches, np.ndarray[tuple[int, ...], np.dtype[np.integer]] | None]:
    batches = [tuple(torch.from_numpy(batch.inputs[spec.name]) for spec in data.specs) for batch in data.batches(size)]
    labels = data.labels()
    return batches, labels if labels is not None and labels.dtype.kind in "iu" else None
