"""What a model is judged by, sample by sample: the score, its uncertainty, and the paired comparison of two files."""

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from paired import interval, mcnemar, packed, unpacked
from scipy import stats

from edgeq.metric import cosine, nll, top1

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One way to judge.

    Attributes:
        name: of the column.
        each: (outputs, labels or None, the float model's outputs) -> a score for each sample.
        share: scores are 0 or 1, their mean is shown in percent.
        less: less is better.
    """

    name: str
    each: Callable[[Array, Array | None, Array], Scores]
    share: bool = False
    less: bool = False

    def number(self, value: float) -> str:
        """A mean score."""
        return f"{value * 100:.2f}" if self.share else f"{value:.4f}"

    def difference(self, value: float) -> str:
        """A difference of two mean scores, with its sign."""
        return f"{value * 100:+.2f}" if self.share else f"{value:+.4f}"

    def interval(self, scores: Scores) -> str:
        """The mean with its 95 % interval (normal approximation; samples are in the hundreds)."""
        if self.share:
            return interval(float(scores.mean()), len(scores))
        half = 1.96 * float(scores.std(ddof=1)) / len(scores) ** 0.5
        return f"{scores.mean():.4f} ({scores.mean() - half:.4f}-{scores.mean() + half:.4f})"

    def p(self, first: Scores, second: Scores) -> float:
        """Two-sided p that two files are equally good on these samples: McNemar's test of shares, else the paired t."""
        if self.share:
            return mcnemar(first > 0, second > 0)
        return 1.0 if np.array_equal(first, second) else float(stats.ttest_rel(first, second).pvalue)

    def better(self, first: float, second: float) -> bool:
        """Whether the first mean score is the better one."""
        return first < second if self.less else first > second

    def packed(self, scores: Scores) -> str:
        """The scores as text: bits of shares, else 32-bit floats."""
        if self.share:
            return packed(scores > 0)
        return base64.b85encode(zlib.compress(scores.astype("<f4").tobytes(), 9)).decode()

    def unpacked(self, text: str, count: int) -> Scores:
        """What :meth:`packed` was given."""
        if self.share:
            return unpacked(text, count).astype(np.float64)
        return np.frombuffer(zlib.decompress(base64.b85decode(text)), "<f4").astype(np.float64)


def _apart(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """How far a probability is from the float model's: a threshold would reward whoever shifts all of them its way."""
    return np.abs(outputs.reshape(-1).astype(np.float64) - reference.reshape(-1))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("top-1 %", top1, share=True),
        Metric("difference from float", _apart, less=True),
        Metric("nll a token", nll, less=True),
        Metric("cosine to float", cosine),
    )
}
