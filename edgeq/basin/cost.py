"""How thorough a diagnosis is, and what it costs: stated before it starts.

Everything is counted in passes of one sample, forward or its equivalent, and priced at the time that the candidate
takes for the first batch.
"""

import time
from dataclasses import dataclass, field

import torch

from edgeq.basin.blame import POINTS_PER_HALF
from edgeq.basin.dither import TRIALS
from edgeq.basin.divergence import Reference, Task
from edgeq.basin.landscape import Landscape
from edgeq.basin.path import GRID
from edgeq.basin.probe import CHECKS, STEPS
from edgeq.basin.verdict import Thresholds

#: A pass with gradients costs about three without.
GRADIENT = 3.0
WIDTH_EVALUATIONS = 5
#: Better rounding runs some samples through the float model and the candidate, and solves for each layer.
_ROUNDING_PASSES = 6 * 128
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
    """What the diagnosis costs at most.

    Attributes:
        passes: samples run forward, or their equivalent.
        seconds: at the speed of the candidate on the first batch.
    """

    passes: int
    seconds: float


def reading_passes(landscape: Landscape) -> float:
    """Passes of each sample that one reading takes."""
    return len(GRID) + landscape.activations + 2 + GRADIENT


def price(landscape: Landscape, reference: Reference, options: Options, *, repairs: bool, rounds: bool) -> Cost:
    """What the diagnosis costs at most.

    Args:
        landscape: float model and candidate.
        reference: the float outputs on the probe samples.
        options: what is taken.
        repairs: whether the statistics repair is tried.
        rounds: whether better rounding is tried.
    """
    count = len(reference)
    passes = count * reading_passes(landscape) * (1 + repairs + rounds) + count * TRIALS
    if rounds:
        passes += _ROUNDING_PASSES + 2 * count
    if options.steps:
        passes += options.steps * options.batch * GRADIENT + 2 * (CHECKS + 1) * count
    if options.layers:
        passes += min(count, options.blame_samples) * 2 * POINTS_PER_HALF * GRADIENT
        layers = min(len(landscape.layers), options.width_layers)
        passes += min(count, options.width_samples) * WIDTH_EVALUATIONS * layers
    return Cost(round(passes), passes * _seconds(landscape, reference))


def _seconds(landscape: Landscape, reference: Reference) -> float:
    """Of one sample through the candidate; the faster of two, since the first pays for what is set up once."""
    inputs, outputs = next(iter(reference))
    found = []
    for _ in range(2):
        started = time.perf_counter()
        with torch.no_grad():
            landscape.run(landscape.deployed, inputs, 1.0 if landscape.activations else 0.0)
        found.append(time.perf_counter() - started)
    return min(found) / max(len(outputs[0]), 1)
