"""From files to a diagnosis: what ``edgeq diagnose`` does between its options and its output."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.basin.cost import Cost, Options
from edgeq.basin.diagnose import Diagnosis
from edgeq.basin.landscape import Batches
from edgeq.basin.pictures import draw
from edgeq.basin.verdict import Thresholds
from edgeq.calibration.data import Dataset, open_dataset
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges, observe
from edgeq.calibration.specs import input_specs
from edgeq.calibration.split import split
from edgeq.errors import DataError
from edgeq.graph.macs import macs
from edgeq.graph.sources.load import load_model
from edgeq.pipeline.diagnosis import Candidate, candidate_of_file, candidate_of_plan, examine, slice_of
from edgeq.pipeline.inputs import Model, open_model
from edgeq.pipeline.options import Options as Source
from edgeq.plan import rules
from edgeq.task import Task

Say = Callable[[str], None]
_FEWEST = 16


@dataclass(frozen=True)
class Request:
    """The options of ``edgeq diagnose``.

    Attributes:
        source: the model, its data, the number format and the seed, as ``edgeq convert`` takes them.
        command: converts the model, without its number format; the remedies add to it.
        candidate: a quantized file, or None to quantize by rounding to nearest.
        per_channel: a scale for each channel of a weight.
        task: what the outputs are; None guesses.
        samples: probe samples; None by the model's size.
        tolerated: share of the decisions that may be lost.
        trial: try better rounding where it may help.
        pictures: folder for the pictures.
        batch: samples in a pass.
    """

    source: Source
    command: str
    candidate: Path | None = None
    per_channel: bool = True
    task: Task | None = None
    samples: int | None = None
    tolerated: float = 0.01
    trial: bool = True
    pictures: Path | None = None
    batch: int = 32


@dataclass(frozen=True, eq=False)
class Found:
    """A diagnosis with what to do and what was drawn."""

    diagnosis: Diagnosis
    remedies: tuple[str, ...]
    pictures: tuple[Path, ...]


def diagnose_files(request: Request, say: Say) -> Found:
    """Load, quantize or read back, and diagnose."""
    model, seed = open_model(request.source), request.source.seed
    data = open_dataset(request.source.data, input_specs(model.graph.inputs), request.source.preprocessing)
    size = sum(macs(model.graph, model.shapes).values())
    options, count = Options.for_size(size, request.task, Thresholds(tolerated=request.tolerated), seed)
    training, probe = _divide(data, request.samples or count, seed)
    batches, labels = model.batches(probe, request.batch), probe.labels()
    training_batches = model.batches(training, request.batch)
    candidate = _candidate(request, model, training, training_batches)
    if not request.trial:
        candidate = replace(candidate, rounding=None)
    if candidate.unmatched:
        say(f"in float, or not recognized in the candidate: {', '.join(candidate.unmatched)}")

    if candidate.rescaled:
        say(f"rescaled across layers by its tool, and brought back: {', '.join(candidate.rescaled)}")

    def announce(cost: Cost) -> None:
        least, most = (f"{max(1, seconds):.0f} s" for seconds in (cost.healthy_seconds, cost.seconds))
        say(f"{len(probe)} probe samples: about {least} if the candidate is healthy, {most} at most")

    found, remedies = examine(
        candidate,
        batches,
        training_batches,
        request.command,
        request.source.bits,
        options,
        labels=labels if labels is not None and labels.dtype.kind in "iu" else None,
        announce=announce,
        progress=lambda what, done, total: say(f"  {100 * done / max(total, 1):3.0f} %  {what}"),
    )
    if request.candidate is not None and found.verdict.name == "inside":
        words = ["edgeq", "validate", str(request.candidate), "--model", request.source.model]
        remedies = (shlex.join([*words, "--eval", str(request.source.data)]),)
    drawn: tuple[Path, ...] = ()
    if request.pictures is not None:
        say("  pictures")
        drawn = draw(found, request.pictures, slice_of(found, batches[:1]))
    return Found(found, remedies, drawn)


def _candidate(request: Request, model: Model, training: Dataset, batches: Batches) -> Candidate:
    """What is asked for, quantized by rounding to nearest, or the file that was given."""
    source = request.source
    if request.candidate is not None:
        quantized = load_model(request.candidate, shapes=source.shapes, constants=source.constants)
        return candidate_of_file(model.graph, quantized, batches, whole=training.whole)
    skeleton = rules.decide(model.graph, rules.Request(source.bits, source.overrides, request.per_channel))
    ranges = Ranges({}, {}, 0, "none")
    if skeleton.groups:
        ranges = observe(model.module, training, skeleton, batch=request.batch)
    return candidate_of_plan(model.graph, nearest(model.graph, skeleton, ranges), batches, whole=training.whole)


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
