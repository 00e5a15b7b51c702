"""Shares of samples that are right: their uncertainty, the paired comparison of two files, and them as text."""

import base64
import zlib

import numpy as np
import numpy.typing as npt
from scipy import stats


def interval(share: float, count: int) -> str:
    """A percentage with its 95 % interval (normal approximation; counts are in the hundreds and more)."""
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    return f"{share * 100:.2f} ({(share - half) * 100:.2f}-{(share + half) * 100:.2f})"


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p that two files judged on the same samples are right equally often.

    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947; exact
    by the binomial distribution of the samples that one alone has right.
    """
    only = int((first & ~second).sum()), int((second & ~first).sum())
    return 1.0 if sum(only) == 0 else float(stats.binomtest(only[0], sum(only)).pvalue)


def packed(decided: npt.NDArray[np.bool_]) -> str:
    """Right and wrong, sample by sample, as text."""
    return base64.b85encode(zlib.compress(np.packbits(decided).tobytes(), 9)).decode()


def unpacked(text: str, count: int) -> npt.NDArray[np.bool_]:
    """What :func:`packed` was given."""
    bits = np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)
