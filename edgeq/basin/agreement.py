"""A, the share of decisions that differ from the float model's, and what it guarantees without a label.

A sample whose decision did not change kept its correctness, so the accuracy cannot drop by more than A. The
Clopper-Pearson upper bound of A over the probe samples therefore bounds the drop on the whole distribution at that
confidence (Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True)
class Agreement:
    """How many decisions changed.

    Attributes:
        changed: A, a share.
        upper: its one-sided upper confidence bound.
        decisions: how many were compared.
        level: the bound's confidence.
    """

    changed: float
    upper: float
    decisions: int
    level: float = 0.95


def agreement(chosen: npt.NDArray[np.int64], reference: npt.NDArray[np.int64], level: float = 0.95) -> Agreement:
    """Compare decisions, both int64 (samples, positions).

    The positions of one sequence are not independent, so the bound counts sequences, not tokens: it uses as many trials
    as there are samples, with the share of changed positions.
    """
    differs = (chosen != reference).mean(1)
    samples = len(differs)
    changed = float(differs.mean())
    return Agreement(changed, clopper_pearson_upper(changed * samples, samples, level), samples, level)


def clopper_pearson_upper(changed: float, samples: int, level: float) -> float:
    """Upper bound of a binomial share; ``changed`` may be fractional, which the beta form extends to."""
    if changed >= samples:
        return 1.0
    return float(stats.beta.ppf(level, changed + 1, samples - changed))
