"""The calibration doctor: do the samples suffice, does evaluation leave their ranges, is the preprocessing plausible?

- Sufficiency: ranges of the first half of the samples against those of all. Where a range still grows much, more
  samples would move the grid.
- Coverage: the share of evaluation numbers outside of each grid. Saturation of a few is a choice; of many, a mismatch.
- Preprocessing: a float model at chance level, or one that gives nearly every sample the same class, has been fed
  something else than it was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from edgeq.calibration.divergence import Inputs
from edgeq.calibration.ranges import Ranges
from edgeq.graph.execute import iterate_values
from edgeq.plan.plan import Skeleton

#: A range that grew by more than this between half and all of the samples has not converged.
GROWTH = 0.20
#: More than this share of evaluation numbers outside of a grid is a mismatch.
OUTSIDE = 0.001
#: More than this share of samples in one class is implausible (with at least ten classes seen as possible).
ONE_CLASS = 0.9


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor found.

    Attributes:
        kind: ``few samples``, ``outside ranges`` or ``preprocessing``.
        where: the value it was seen at, or "" for the model as a whole.
        measured: the figure.
        limit: what it should not exceed (or, for accuracy, fall below).
        advice: one line.
    """

    kind: str
    where: str
    measured: float
    limit: float
    advice: str


def sufficiency(seen: Ranges) -> tuple[Finding, ...]:
    """Values whose observed extremes still grow between half of the samples and all of them, worst first.

    Args:
        seen: what was observed; nothing is found where it does not know the extremes after half of the samples.
    """
    found = []
    for group, (half_low, half_high) in seen.half.items():
        low, high = seen.extremes[group]
        growth = 1.0 - (half_high - half_low) / (high - low) if high > low else 0.0
        if growth > GROWTH:
            advice = (
                f"half of the samples cover {1 - growth:.0%} of its range: calibrate on more, and more varied, ones"
            )
            found.append(Finding("few samples", group, growth, GROWTH, advice))
    return tuple(sorted(found, key=lambda finding: -finding.measured))


def coverage(
    module: fx.GraphModule, evaluation: Inputs, skeleton: Skeleton, ranges: Mapping[str, tuple[float, float]]
) -> tuple[Finding, ...]:
    """Values that leave their calibrated range on evaluation samples, worst first."""
    wanted = frozenset(v for v, group in skeleton.groups.items() if group not in skeleton.fixed)
    outside: dict[str, int] = {}
    seen: dict[str, int] = {}
    with torch.inference_mode():
        for inputs in evaluation:
            for value, tensor in iterate_values(module, inputs, wanted):
                group = skeleton.groups[value]
                low, high = ranges[group]
                out = (tensor < min(low, 0.0)) | (tensor > max(high, 0.0))
                outside[value] = outside.get(value, 0) + int(out.sum())
                seen[value] = seen.get(value, 0) + tensor.numel()
    shares = {value: count / seen[value] for value, count in outside.items() if seen[value]}
    advice = "evaluation samples leave the calibrated range: calibrate on samples like them"
    return tuple(
        Finding("outside ranges", value, share, OUTSIDE, advice)
        for value, share in sorted(shares.items(), key=lambda item: -item[1])
        if share > OUTSIDE
    )


def preprocessing(
    outputs: Sequence[torch.Tensor], labels: npt.NDArray[np.integer] | None = None
) -> tuple[Finding, ...]:
    """Whether the float model's own outputs (samples, classes) say that it was fed the wrong thing."""
    logits = torch.cat(list(outputs))
    if logits.ndim != 2 or logits.shape[1] < 2:
        return ()
    decisions, classes = logits.argmax(1).numpy(), logits.shape[1]
    advice = "look at --mean, --std, --layout and the order of the channels"
    if labels is not None:
        right = float((decisions == np.asarray(labels).reshape(-1)).mean())
        # Twice chance, and what chance itself reaches by luck at three standard deviations.
        limit = max(2 / classes, 1 / classes + 3 * (1 / classes / len(decisions)) ** 0.5)
        return (
            (Finding("preprocessing", "", right, limit, f"the float model is at chance level: {advice}"),)
            if (right <= limit)
            else ()
        )
    share = float(np.bincount(decisions, minlength=classes).max() / len(decisions))
    if len(decisions) >= 20 and share > ONE_CLASS and classes > 2:
        return (Finding("preprocessing", "", share, ONE_CLASS, f"nearly all samples get one class: {advice}"),)
    return ()
