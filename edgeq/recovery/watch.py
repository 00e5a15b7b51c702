"""Held-out samples: some are watched during the run, the others judge the result and are used once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from edgeq.basin.divergence import Divergence
from edgeq.errors import DataError
from edgeq.recovery.logits import Outputs
from edgeq.recovery.samples import Inputs
from edgeq.recovery.teacher import Teacher
from edgeq.task import Task, guess_task, softening

#: No more samples are watched than about this many: each watch point costs two passes over them.
MOST_WATCHED = 256


@dataclass(frozen=True)
class Sizes:
    """How many of the held-out samples are used.

    Attributes:
        used: so many, evenly spread.
        watched: of these, about so many at most; the others judge.
    """

    used: int
    watched: int = MOST_WATCHED


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model does on some held-out samples.

    Attributes:
        divergence: float64 (samples,).
        soft: the same softened by a temperature (``edgeq.task``): which of two models is the better one. The same
            array where the task needs no softening.
        agreement: share of the decisions that are the float model's; NaN where there are no decisions.
        correct: how many decisions are the label's; None without labels.
    """

    divergence: npt.NDArray[np.float64]
    soft: npt.NDArray[np.float64]
    agreement: float
    correct: int | None

    @property
    def mean(self) -> float:
        """The mean divergence."""
        return float(self.divergence.mean())

    @property
    def mean_soft(self) -> float:
        """The mean of the softened one."""
        return float(self.soft.mean())


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Some held-out samples with the float model's outputs.

    Attributes:
        batches: inputs, float outputs and labels (or None), batch by batch.
        measure: the divergence.
    """

    batches: tuple[tuple[Inputs, Outputs, torch.Tensor | None], ...]
    measure: Divergence

    @property
    def count(self) -> int:
        """How many samples there are."""
        return sum(len(inputs[0]) for inputs, _, _ in self.batches)

    @torch.no_grad()
    def scores(self, run: Callable[[Inputs], Outputs]) -> Scores:
        """Score a model that gives logits."""
        softened = replace(self.measure, temperature=softening(self.measure.task))
        found, soft, agree, decided, correct, labelled = [], [], 0, 0, 0, False
        for inputs, wanted, labels in self.batches:
            outputs = run(inputs)
            found.append(self.measure(outputs, wanted).cpu())
            if softened != self.measure:
                soft.append(softened(outputs, wanted).cpu())
            mine, reference = self.measure.decisions(outputs), self.measure.decisions(wanted)
            if mine is not None and reference is not None:
                agree, decided = agree + int((mine == reference).sum()), decided + mine.numel()
                if labels is not None:
                    labelled = True
                    correct += int((mine.cpu() == labels.reshape(mine.shape)).sum())
        share = agree / decided if decided else float("nan")
        each = torch.cat(found).double().numpy()
        softly = torch.cat(soft).double().numpy() if soft else each
        return Scores(each, softly, share, correct if labelled else None)


def divergence_of(teacher: Teacher, held_out: Sequence[Inputs], task: Task | None) -> Divergence:
    """The divergence that fits the model's outputs.

    Raises:
        DataError: there are no held-out samples.
    """
    if not held_out:
        raise DataError("recovery needs held-out samples to judge by: some hundreds, apart from those it trains on")
    first = teacher.outputs(held_out[0])
    chosen = task or guess_task(held_out[0][0].numpy(), tuple(z.cpu().numpy() for z in first))
    if chosen != "values":
        return Divergence(chosen, ())
    return Divergence(chosen, _variances([first, *(teacher.outputs(inputs) for inputs in held_out[1:])]))


def _variances(outputs: Sequence[tuple[torch.Tensor, ...]]) -> tuple[float, ...]:
    joined = [torch.cat([batch[i].flatten(1) for batch in outputs]).double() for i in range(len(outputs[0]))]
    return tuple(max(float((z - z.mean(0)).square().mean()), 1e-12) for z in joined)


def selected(
    held_out: Sequence[Inputs], labels: Sequence[torch.Tensor] | None, count: int
) -> tuple[Sequence[Inputs], Sequence[torch.Tensor] | None]:
    """So many of the samples, evenly spread, with their labels.

    Raises:
        DataError: the labels do not fit.
    """
    if labels is None:
        return _thinned(held_out, count), None
    if [len(part) for part in labels] != [len(inputs[0]) for inputs in held_out]:
        raise DataError("the labels of the held-out samples do not fit their batches")
    rows = _thinned([(*inputs, part) for inputs, part in zip(held_out, labels, strict=True)], count)
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def _thinned(batches: Sequence[Inputs], count: int) -> Sequence[Inputs]:
    """In batches as large as the first: a pass over small ones is slow."""
    sizes = [len(batch[0]) for batch in batches]
    total = sum(sizes)
    if count == total:
        return batches
    chosen = torch.split(torch.arange(total) * count % total < count, sizes)
    few = [tuple(x[which] for x in batch) for which, batch in zip(chosen, batches, strict=True)]
    if len({tuple(x.shape[1:] for x in batch) for batch in few}) > 1:
        return [batch for batch in few if len(batch[0])]
    joined = (torch.cat(parts) for parts in zip(*few, strict=True))
    return list(zip(*(torch.split(x, len(batches[0][0])) for x in joined), strict=True))


def split(
    held_out: Sequence[Inputs],
    labels: Sequence[torch.Tensor] | None,
    teacher: Teacher,
    measure: Divergence,
    watched: int = MOST_WATCHED,
) -> tuple[HeldOut, HeldOut]:
    """(watched, judging): every other sample each; of many samples most judge, for that costs only two passes.

    Raises:
        DataError: fewer than two samples, or the float model's outputs on them are not finite.
    """
    counts = [len(inputs[0]) for inputs in held_out]
    every = max(2, sum(counts) // watched)
    halves: tuple[list[tuple[Inputs, Outputs, torch.Tensor | None]], ...] = ([], [])
    seen = 0
    for index, inputs in enumerate(held_out):
        is_watched = (torch.arange(counts[index]) + seen) % every == 0
        seen += counts[index]
        for chosen, kept in zip((is_watched, ~is_watched), halves, strict=True):
            if bool(chosen.any()):
                taken = tuple(x[chosen] for x in inputs)
                kept.append((taken, teacher.outputs(taken), None if labels is None else labels[index][chosen]))
    if not all(halves):
        raise DataError("recovery needs held-out samples to judge by: at least two, better some hundreds")
    if not all(bool(torch.isfinite(z).all()) for half in halves for _, outputs, _ in half for z in outputs):
        raise DataError("the float model's outputs are not finite on the held-out samples; look at the samples' scale")
    return HeldOut(tuple(halves[0]), measure), HeldOut(tuple(halves[1]), measure)
