"""E, the accuracy that the changed decisions cost by the float model's own probabilities.

    e = p_0(class chosen by the float model) - p_0(class chosen by the candidate),     E = mean of e over the samples

A changed decision is not a lost one: where the float model gives 0.45 to one class and 0.44 to another, either is right
almost as often. A alone counts such a sample as a whole loss; E counts 0.01. E needs no label and no further pass. If
the float model is calibrated, E is the expected drop of accuracy; if it is too sure of itself, as trained networks are,
E overstates the drop, which is the safe side.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from edgeq.basin.divergence import Reference


@dataclass(frozen=True)
class ExpectedDrop:
    """The expected drop of accuracy.

    Attributes:
        value: E, a share of the decisions.
        upper: its one-sided upper confidence bound (Student's t over the samples).
        level: the bound's confidence.
    """

    value: float
    upper: float
    level: float = 0.95


def expected_drop(chosen: npt.NDArray[np.int64], reference: Reference, level: float = 0.95) -> ExpectedDrop:
    """E of decisions, int64 (samples, positions), from the float outputs that are already there.

    The positions of one sequence are not independent, so the bound counts sequences.
    """
    lost = []
    start = 0
    for outputs in reference.outputs:
        p0 = torch.softmax(outputs[0].double(), -1)
        rows = torch.from_numpy(chosen[start : start + len(p0)]).reshape(p0.shape[:-1])
        start += len(p0)
        gap = p0.max(-1).values - p0.gather(-1, rows.unsqueeze(-1)).squeeze(-1)
        lost.append(gap.reshape(len(gap), -1).mean(1))
    by_sample = torch.cat(lost).numpy()
    mean, count = float(by_sample.mean()), len(by_sample)
    if count < 2:
        return ExpectedDrop(mean, 1.0, level)
    spread = float(by_sample.std(ddof=1)) / float(np.sqrt(count))
    return ExpectedDrop(mean, mean + float(stats.t.ppf(level, count - 1)) * spread, level)
