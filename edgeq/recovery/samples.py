"""Unlabelled samples as a pure function of the step: a resumed run sees what an uninterrupted one sees."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from edgeq.errors import DataError

Inputs = tuple[torch.Tensor, ...]
#: (inputs of a batch, a generator seeded for the step) -> inputs; flips, crops, noise. Called on the CPU.
Augment = Callable[[Inputs, torch.Generator], Inputs]


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of one step.

    Attributes:
        inputs: in the order of the graph's inputs, samples first.
        indices: int64 (samples,), which samples these are, if they are as stored (not augmented); else None.
    """

    inputs: Inputs
    indices: torch.Tensor | None = None


class Samples(Protocol):
    """What recovery trains on. ``batch(step)`` gives equal tensors whenever it is asked for the same step."""

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""

    def batch(self, step: int) -> Batch:
        """The batch of that step, counted from 0."""

    def stored(self) -> Inputs | None:
        """All samples, if ``Batch.indices`` point into them; None for a stream."""


class Shuffled:
    """Samples held in memory, drawn without replacement epoch by epoch.

    Args:
        inputs: in the order of the graph's inputs, samples first.
        batch_size: at most; smaller if there are fewer samples.
        seed: of the order and the augmentation.
        augment: changes a batch before it is used.

    Raises:
        DataError: there are no samples, or the inputs do not have equally many.
    """

    def __init__(self, inputs: Inputs, batch_size: int = 64, *, seed: int = 0, augment: Augment | None = None) -> None:
        counts = {len(tensor) for tensor in inputs}
        if len(counts) != 1 or 0 in counts:
            raise DataError(f"recovery needs samples, equally many for every input; it was given {sorted(counts)}")
        self.inputs, self.seed, self.augment = inputs, seed, augment
        self.count = counts.pop()
        self._batch_size = min(batch_size, self.count)
        self._order: tuple[int, torch.Tensor] | None = None

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""
        return self._batch_size

    def batch(self, step: int) -> Batch:
        """The batch of that step; an epoch's last, incomplete batch is left out."""
        per_epoch = self.count // self._batch_size
        epoch, position = divmod(step, per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, torch.randperm(self.count, generator=_generator(self.seed, epoch)))
        indices = self._order[1][position * self._batch_size : (position + 1) * self._batch_size]
        inputs = tuple(tensor[indices] for tensor in self.inputs)
        if self.augment is None:
            return Batch(inputs, indices)
        return Batch(self.augment(inputs, _generator(self.seed, step, 1)))

    def stored(self) -> Inputs | None:
        """All samples, unless they are augmented."""
        return self.inputs if self.augment is None else None


class Streamed:
    """Batches of an iterable that can be iterated anew (a data loader, a dataset's batches): memory does not grow.

    Its order must be the same in each pass; a resumed run reads on from the step where it stopped.

    Raises:
        DataError: the iterable is empty.
    """

    def __init__(self, batches: Iterable[Inputs]) -> None:
        self._batches = batches
        self._iterator: Iterator[Inputs] = iter(batches)
        self._next = 0
        first = self._advance()
        self._batch_size = len(first[0])
        self._restart()

    @property
    def batch_size(self) -> int:
        """Samples in the first batch."""
        return self._batch_size

    def batch(self, step: int) -> Batch:
        """The batch of that step; the iterable starts again when it is exhausted."""
        if step < self._next:
            self._restart()
        while self._next < step:
            self._advance()
        return Batch(self._advance())

    def stored(self) -> Inputs | None:
        """None: a stream is not held."""
        return None

    def _restart(self) -> None:
        self._iterator, self._next = iter(self._batches), 0

    def _advance(self) -> Inputs:
        inputs = next(self._iterator, None)
        if inputs is None:
            self._iterator = iter(self._batches)
            inputs = next(self._iterator, None)
        if inputs is None:
            raise DataError("recovery needs samples; the source gave none (a one-shot iterator cannot be read twice)")
        self._next += 1
        return inputs


def _generator(*seeds: int) -> torch.Generator:
    # Mixed so that (seed, epoch) pairs do not share streams.
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed + 1) % (2**63)
    return torch.Generator().manual_seed(mixed)
