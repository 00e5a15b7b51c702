"""Ranges of the values that the plan quantizes, observed on samples; memory does not grow with their number."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx

from edgeq.calibration.data import Dataset
from edgeq.calibration.observers import MinMax, Observer
from edgeq.errors import DataError
from edgeq.graph.execute import iterate_values
from edgeq.plan.plan import Skeleton

#: (samples done, samples in all or None if not known).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Ranges:
    """What was observed.

    Attributes:
        ranges: group representative -> (low, high) to cover, as the observer chose and the clamps bound it.
        extremes: group representative -> exact (minimum, maximum) of what was seen.
        samples: how many samples were seen.
        observer: name of the observer's class, for the report.
        half: the extremes after half of the samples; empty where their number was not known beforehand.
    """

    ranges: Mapping[str, tuple[float, float]]
    extremes: Mapping[str, tuple[float, float]]
    samples: int
    observer: str
    half: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __getitem__(self, representative: str) -> tuple[float, float]:
        return self.ranges[representative]


def observe(
    module: fx.GraphModule,
    samples: Dataset | Iterable[tuple[torch.Tensor, ...]],
    skeleton: Skeleton,
    observer: Callable[[], Observer] = MinMax,
    *,
    batch: int = 32,
    progress: Progress | None = None,
) -> Ranges:
    """Run the float model over the samples and observe every quantized value.

    Args:
        module: the float model (``edgeq.graph.execute.to_torch``).
        samples: a dataset of the model, or input tensors in the order of the graph's inputs, batch by batch.
        skeleton: which values are quantized, which of them share a grid, and how they are bounded.
        observer: makes one observer for a group; see ``edgeq.calibration.observers.OBSERVERS``.
        batch: samples in a batch, where the samples are a dataset.
        progress: called after each batch.

    Raises:
        DataError: there are no samples, or a value becomes NaN or infinite on them.
    """
    free = frozenset(value for value, group in skeleton.groups.items() if group not in skeleton.fixed)
    observers: dict[str, Observer] = {}
    extremes: dict[str, MinMax] = {}
    for group in dict.fromkeys(skeleton.groups[value] for value in sorted(free)):
        observers[group] = made = observer()
        known = getattr(made, "extremes", made)
        extremes[group] = known if isinstance(known, MinMax) else MinMax()
    done, total = 0, _number(samples)
    half: dict[str, tuple[float, float]] = {}
    with torch.inference_mode():
        for inputs, count in _batches(samples, batch):
            _observe_batch(module, inputs, free, skeleton, observers)
            done += count
            if not half and total is not None and done < total <= 2 * done:
                half = {group: (extreme.low, extreme.high) for group, extreme in extremes.items()}
            if progress is not None:
                progress(done, total)
    if done == 0:
        raise DataError("there are no calibration samples")
    return Ranges(
        ranges={group: _range(group, made, skeleton) for group, made in observers.items()},
        extremes={group: (extreme.low, extreme.high) for group, extreme in extremes.items()},
        samples=done,
        observer=getattr(observer, "__name__", type(observer).__name__),
        half=half,
    )


def _number(samples: Dataset | Iterable[tuple[torch.Tensor, ...]]) -> int | None:
    if isinstance(samples, Dataset):
        return len(samples)
    return sum(len(inputs[0]) for inputs in samples) if isinstance(samples, Sequence) else None


def _observe_batch(
    module: fx.GraphModule,
    inputs: tuple[torch.Tensor, ...],
    wanted: frozenset[str],
    skeleton: Skeleton,
    observers: Mapping[str, Observer],
) -> None:
    for value, tensor in iterate_values(module, inputs, wanted):
        try:
            observers[skeleton.groups[value]].update(tensor)
        except DataError as error:
            raise DataError(
                f"calibration: value {value!r} {error}; look at the samples' scale, or keep that layer in float"
            ) from None


def _range(group: str, observer: Observer, skeleton: Skeleton) -> tuple[float, float]:
    try:
        bits = skeleton.activation_bits(group)
        symmetric = skeleton.symmetric or bits == 16 or group in skeleton.centred
        low, high = observer.range(bits, symmetric=symmetric)
    except DataError as error:
        raise DataError(f"calibration: value {group!r}: {error}; its layer does not run on these samples") from None
    bound_low, bound_high = skeleton.clamps.get(group, (low, high))
    return min(max(low, bound_low), bound_high), max(min(high, bound_high), bound_low)


def _batches(
    samples: Dataset | Iterable[tuple[torch.Tensor, ...]], size: int
) -> Iterator[tuple[tuple[torch.Tensor, ...], int]]:
    if not isinstance(samples, Dataset):
        for inputs in samples:
            yield inputs, len(inputs[0])
        return
    fixed = [spec.shape[0] for spec in samples.specs if spec.shape and spec.shape[0] is not None]
    for found in samples.batches(fixed[0] if fixed else size):
        # A model of fixed batch cannot take a shorter last batch.
        if fixed and not samples.whole and len(found) != fixed[0]:
            continue
        yield tuple(torch.from_numpy(found.inputs[spec.name]) for spec in samples.specs), len(found)
