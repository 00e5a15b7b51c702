"""How thorough a diagnosis is, and what it costs: stated before it starts.

Everything is counted in passes of one sample, forward or its equivalent, and priced at the time that the candidate
takes for a few of them. Two prices are told, since a healthy candidate needs neither repair nor trials: what it costs
if that is found, and what it costs at most.
"""

import time
from dataclasses import dataclass, field

from edgeq.basin.blame import POINTS_PER_HALF
from edgeq.basin.dither import TRIALS
from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.landscape import Batches, Landscape
from edgeq.basin.lockstep import samples
from edgeq.basin.path import GRID
from edgeq.basin.probe import CHECKS, STEPS
from edgeq.basin.verdict import Thresholds
from edgeq.task import Task

#: A pass with gradients costs about three without.
GRADIENT = 3.0
WIDTH_EVALUATIONS = 5
#: The statistics repair keeps all values of its samples' step by step, in the float model and in the candidate.
_REPAIR = 4.0
#: Better rounding runs so many samples through the float model and the candidate, gathers second moments of each
#: layer's inputs, and solves for each layer: 14 passes a sample were measured (ResNet-20), 25 and more (DS-CNN).
ROUNDING_SAMPLES, _ROUNDING = 128, 30.0
#: The speed is measured until so many seconds or runs are spent; the fastest run counts.
_MEASURED_SECONDS, _MEASURED_RUNS, _ON_THE_WAY = 1.0, 6, 0.75
#: Multiply-accumulates of one forward pass over all probe samples that are spent without asking.
_AFFORDABLE = 20 * 10**9
FEWEST_SAMPLES, MOST_SAMPLES = 48, 256


@dataclass(frozen=True)
class Options:
    """What to take and how thoroughly.

    Attributes:
        task: classes, tokens or values; None guesses from the outputs.
        thresholds: the rules' numbers.
        steps: of the probe; 0 leaves it out.
        batch: samples in one step of the probe.
        layers: whether blame and widths are taken.
        blame_samples: samples for the blame.
        width_samples: samples for the widths.
        width_layers: widths are taken of so many layers, those with the most blame first.
        seed: of everything random.
    """

    task: Task | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    steps: int = STEPS
    batch: int = 32
    layers: bool = True
    blame_samples: int = 64
    width_samples: int = 32
    width_layers: int = 10**6
    seed: int = 0

    @classmethod
    def for_size(cls, macs: int, task: Task | None, thresholds: Thresholds, seed: int = 0) -> "tuple[Options, int]":
        """The options and the number of probe samples for a model of that many multiply-accumulates.

        A model of EfficientNet's size gets fewer samples, so that its diagnosis takes minutes and not an hour. That
        depends on the model alone, never on the machine's speed: the same inputs give the same verdict everywhere.
        """
        samples = int(min(max(_AFFORDABLE // max(macs, 1), FEWEST_SAMPLES), MOST_SAMPLES))
        if samples == MOST_SAMPLES:
            return cls(task, thresholds, seed=seed), samples
        return cls(task, thresholds, batch=8, blame_samples=32, width_samples=8, width_layers=12, seed=seed), samples


@dataclass(frozen=True)
class Cost:
    """What the diagnosis costs.

    Attributes:
        passes: samples run forward, or their equivalent, at most.
        seconds: these at the speed of the candidate.
        healthy_seconds: what it costs if the candidate turns out to be inside.
    """

    passes: int
    seconds: float
    healthy_seconds: float


def reading_passes(landscape: Landscape) -> float:
    """Passes of each sample that one reading takes."""
    return len(GRID) + landscape.activations + 2 + GRADIENT


def price(
    landscape: Landscape, reference: Reference, training: Batches, options: Options, *, repairs: bool, rounds: bool
) -> Cost:
    """What the diagnosis costs.

    Args:
        landscape: float model and candidate.
        reference: the float outputs on the probe samples.
        training: samples for the repair and the trials.
        options: what is taken.
        repairs: whether the statistics repair is tried.
        rounds: whether better rounding is tried.
    """
    count = len(reference)
    healthy = count * reading_passes(landscape) + layer_passes(landscape, count, options)
    passes = healthy + count * TRIALS
    sizes = [samples(batch) for batch in training]
    if repairs:
        passes += count * reading_passes(landscape) + _REPAIR * sum(sizes)
    if rounds:
        passes += _ROUNDING * min(sum(sizes), ROUNDING_SAMPLES) + _REPAIR * sum(sizes) + 2 * count
    if options.steps and sizes:
        # Batches are only ever split.
        step = min(options.batch, max(sizes))
        passes += sum(sizes) + options.steps * step * GRADIENT + 2 * (CHECKS + 1) * count
        passes += count * reading_passes(landscape) * rounds
    second = _seconds(landscape, reference)
    return Cost(round(passes), passes * second, healthy * second)


def layer_passes(landscape: Landscape, count: int, options: Options) -> float:
    """Passes that blame and widths take."""
    if not options.layers:
        return 0.0
    layers = min(len(landscape.layers), options.width_layers)
    found = min(count, options.blame_samples) * 2 * POINTS_PER_HALF * GRADIENT
    return found + min(count, options.width_samples) * WIDTH_EVALUATIONS * layers


def _seconds(landscape: Landscape, reference: Reference) -> float:
    """Of one sample on the path, with its divergence.

    The fastest of some runs: the first pays for what is set up once, and others for what else the machine does.
    """
    few = reference.first(1)
    found: list[float] = []
    while len(found) < 2 or (len(found) < _MEASURED_RUNS and sum(found) < _MEASURED_SECONDS):
        started = time.perf_counter()
        altitude(landscape, landscape.at(_ON_THE_WAY), few, _ON_THE_WAY if landscape.activations else 0.0)
        found.append(time.perf_counter() - started)
    return min(found) / max(len(few), 1)
