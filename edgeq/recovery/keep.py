"""Whether a plan replaces the one that it came from: only if held-out samples say so.

Two sets of them can. The judging samples have seen nothing of the run, and on them the means must fall. The watched
ones chose among the run's points, so each of their p-values counts as often as there were points (Bonferroni). The
judging samples may show the gain alone, or both sets together (Fisher's method): half of a few held-out samples are too
few to show even a large one.

A set is asked by two tests, Student's t, which sees a gain in the heavy tail of the divergences, and Wilcoxon's signed
ranks, which see one in most samples; of the divergence and, where there is one, of the softened divergence.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from edgeq.recovery.watch import Scores

#: How probable the gains may be if the recovered plan were no better.
_LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Witness:
    """What one set of held-out samples says of two plans.

    Attributes:
        before: of the first plan.
        after: of the second.
        points: among how many points of a run these samples chose the second plan; 1 where they did not.
    """

    before: Scores
    after: Scores
    points: int = 1

    def gains(self) -> list[npt.NDArray[np.float64]]:
        """By how much each divergence fell, sample by sample."""
        found = [self.before.divergence - self.after.divergence]
        if self.after.soft is not self.after.divergence:
            found.append(self.before.soft - self.after.soft)
        return found

    def p_value(self) -> float:
        """How probable so much gain were if the second plan were no better."""
        found = [p for gain in self.gains() for p in _p_values(gain)]
        return min(1.0, len(found) * self.points * min(found))


def why_not_kept(judged: Witness, watched: Witness) -> str:
    """Why the second plan must not replace the first one, or "" if it may.

    Args:
        judged: of samples that chose nothing.
        watched: of other samples.
    """
    before, after = judged.before, judged.after
    if not np.isfinite(after.divergence).all():
        return "the recovered model gives outputs that are not finite on held-out samples"
    alone = judged.p_value()
    together = float(stats.combine_pvalues([alone, watched.p_value()], method="fisher").pvalue)
    if not (all(float(gain.mean()) > 0 for gain in judged.gains()) and 2 * min(alone, together) <= _LEVEL):
        return (
            f"held-out samples do not show that it is better: divergence {before.mean:.4g} before, "
            f"{after.mean:.4g} after, {len(after.divergence)} samples"
        )
    if before.correct is not None and after.correct is not None and after.correct < before.correct:
        return (
            f"fewer held-out labels are met: {before.correct} before, {after.correct} after, of {len(after.divergence)}"
        )
    return ""


def _p_values(gain: npt.NDArray[np.float64]) -> tuple[float, float]:
    if len(gain) < 2 or not float(gain.std()) > 0:
        return 1.0, 1.0
    t = float(gain.mean()) / (float(gain.std(ddof=1)) / len(gain) ** 0.5)
    return float(stats.t.sf(t, len(gain) - 1)), float(stats.wilcoxon(gain, alternative="greater").pvalue)
