"""Held-out samples: some are watched during the run, the others judge the result and are used once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from edgeq.basin.divergence import Divergence
from edgeq.errors import DataError
from edgeq.recovery.logits import Outputs
from edgeq.recovery.samples import Inputs
from edgeq.recovery.teacher import Teacher
from edgeq.task import Task, guess_task, softening

#: No more samples are watched than about this many: each watch point costs two passes over them.
MOST_WATCHED = 256
#: How probable the gains may be if the recovered plan were no better.
_LEVEL = 0.05


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
        DataError: there are no held-out samples, or the float model's outputs on them are not finite.
    """
    if not held_out:
        raise DataError("recovery needs held-out samples to judge by: some hundreds, apart from those it trains on")
    outputs = [teacher.outputs(inputs) for inputs in held_out]
    if not all(bool(torch.isfinite(x).all()) for batch in outputs for x in batch):
        raise DataError("the float model's outputs are not finite on the held-out samples; look at the samples' scale")
    chosen = task or guess_task(held_out[0][0].numpy(), tuple(z.cpu().numpy() for z in outputs[0]))
    return Divergence(chosen, _variances(outputs) if chosen == "values" else ())


def _variances(outputs: Sequence[tuple[torch.Tensor, ...]]) -> tuple[float, ...]:
    joined = [torch.cat([batch[i].flatten(1) for batch in outputs]).double() for i in range(len(outputs[0]))]
    return tuple(max(float((z - z.mean(0)).square().mean()), 1e-12) for z in joined)


def split(
    held_out: Sequence[Inputs], labels: Sequence[torch.Tensor] | None, teacher: Teacher, measure: Divergence
) -> tuple[HeldOut, HeldOut]:
    """(watched, judging): every other sample each; of many samples most judge, for that costs only two passes.

    Raises:
        DataError: fewer than two samples, or labels that do not fit.
    """
    if labels is not None and [len(part) for part in labels] != [len(inputs[0]) for inputs in held_out]:
        raise DataError("the labels of the held-out samples do not fit their batches")
    counts = [len(inputs[0]) for inputs in held_out]
    every = max(2, sum(counts) // MOST_WATCHED)
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
    return HeldOut(tuple(halves[0]), measure), HeldOut(tuple(halves[1]), measure)


def why_not_kept(before: Scores, after: Scores) -> str:
    """Why the recovered plan must not replace the one it started from, or "" if it may."""
    if not np.isfinite(after.divergence).all():
        return "the recovered model gives outputs that are not finite on held-out samples"
    count, gains = len(after.divergence), [before.divergence - after.divergence]
    if after.soft is not after.divergence:
        gains.append(before.soft - after.soft)
    level = _LEVEL / len(gains)
    if not (all(float(gain.mean()) > 0 for gain in gains) and any(_improbable_by_chance(g, level) for g in gains)):
        return (
            f"held-out samples do not show that it is better: divergence {before.mean:.4g} before, "
            f"{after.mean:.4g} after, {count} samples"
        )
    if before.correct is not None and after.correct is not None and after.correct < before.correct:
        return f"fewer held-out labels are met: {before.correct} before, {after.correct} after, of {count}"
    return ""


def _improbable_by_chance(gain: npt.NDArray[np.float64], level: float) -> bool:
    """Whether gains lean to the positive, by either of two tests at half the level each (Bonferroni).

    Student's t sees a gain in the heavy tail of the divergences, Wilcoxon's signed ranks one in most samples.
    """
    if len(gain) < 2 or not float(gain.std()) > 0:
        return False
    t = float(gain.mean()) / (float(gain.std(ddof=1)) / len(gain) ** 0.5)
    p_values = float(stats.t.sf(t, len(gain) - 1)), float(stats.wilcoxon(gain, alternative="greater").pvalue)
    return min(p_values) <= level / 2
