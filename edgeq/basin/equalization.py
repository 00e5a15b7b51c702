"""Recognize weights that a tool has rescaled across layers (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019) and undo it.

    W' = diag(a) W diag(c),   a, c > 0,  with the next layer taking 1 / a on its inputs

leaves the float function as it was. Compared with W, such weights look far away though nothing was lost. The diagonals
are found by alternating least squares; dividing by them gives weights in the float model's own units. What does not
cancel between the layers (a fault, then, and not an equalization) shows in the file's outputs, which are taken as they
are.

Rounding to nearest leaves an error of 0.29 grid steps (rms, 1 / sqrt 12). A weight that is farther from the float one
than that, and that the diagonals bring much nearer, was rescaled: that holds at 3 bits too, where rounding is most of
the difference. Without a grid to compare with, only a difference that the diagonals explain nearly whole is believed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
_ROUNDS = 12
#: Weights that a diagonal brings this near belong together; a fit of few numbers per channel comes near by chance.
_SURE = 0.85
#: Share of the squared error that may be left for a rescaling to be believed; rounding to a grid is not explained away.
_LEFT, _LEFT_OVER_GRID = 0.25, 0.75
#: Error in grid steps (rms) above which rounding to nearest alone cannot be the reason.
_BEYOND_ROUNDING = 0.33
#: A slice that points elsewhere than the float one (a dead channel, all rounded to nothing) is matched in size alone.
_VAGUE = 0.5


@dataclass(frozen=True, eq=False)
class Rescaling:
    """A rescaled weight.

    Attributes:
        factor: a x c, float32 of the weight's shape: the file's weight divided by it is in the float model's units.
        cosine: of the weight and the float weight so multiplied.
    """

    factor: Array
    cosine: float


def rescaling(found: Array, weight: Array, scale: Array | None = None) -> Rescaling | None:
    """The positive diagonals between two weights (first axis and second axis), or None where they explain nothing.

    Args:
        found: the file's weight.
        weight: the float model's, of the same shape.
        scale: the grid step of the file's weight, one or one for each slice of either axis; None if it is not known.
    """
    if found.ndim < 2 or not (np.isfinite(found).all() and np.isfinite(weight).all()):
        return None
    rows = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
    seen = found.reshape(rows.shape).astype(np.float64)
    a, c = np.ones(rows.shape[0]), np.ones(rows.shape[1])
    for _ in range(_ROUNDS):
        a = _fit(seen, rows * c[None, :, None], (1, 2))
        c = _fit(seen, rows * a[:, None, None], (0, 2))
    fitted = rows * a[:, None, None] * c[None, :, None]
    left = float(np.square(seen - fitted).sum() / max(np.square(seen - rows).sum(), 1e-300))
    cosine = _cosine(seen, fitted)
    if cosine < _SURE or left > (_LEFT_OVER_GRID if _beyond_rounding(seen, rows, scale) else _LEFT):
        return None
    a = _sized(seen, rows * c[None, :, None], a, (1, 2))
    c = _sized(seen, rows * a[:, None, None], c, (0, 2))
    spread = np.broadcast_to(a[:, None, None] * c[None, :, None], rows.shape).reshape(weight.shape)
    return Rescaling(spread.astype(np.float32), cosine)


def _beyond_rounding(seen: Wide, rows: Wide, scale: Array | None) -> bool:
    """Whether the weight is farther from the float one than rounding to nearest on its grid brings it."""
    if scale is None or scale.size not in (1, *seen.shape[:2]):
        return False
    axis = 0 if scale.size in (1, seen.shape[0]) else 1
    steps = np.asarray(scale, np.float64).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return bool(np.sqrt(np.square((seen - rows) / np.maximum(steps, 1e-30)).mean()) > _BEYOND_ROUNDING)


def _fit(seen: Wide, scaled: Wide, axes: tuple[int, int]) -> Wide:
    """The best positive factor of every slice; 1 where the slice says nothing."""
    power = np.square(scaled).sum(axes)
    best = (seen * scaled).sum(axes) / np.maximum(power, 1e-30)
    usable: Wide = np.where((best > 0) & (power > 0), best, 1.0)
    return usable


def _sized(seen: Wide, scaled: Wide, factors: Wide, axes: tuple[int, int]) -> Wide:
    """The factors; those of vague slices are replaced by the ratio of sizes, which no fit shrinks."""
    one, other = np.sqrt(np.square(seen).sum(axes)), np.sqrt(np.square(scaled).sum(axes))
    cosines = (seen * scaled).sum(axes) / np.maximum(one * other, 1e-30)
    sized: Wide = np.where((cosines < _VAGUE) & (one > 0) & (other > 0), one / np.maximum(other, 1e-30), factors)
    return sized


def _cosine(a: Wide, b: Wide) -> float:
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / size) if size > 0 else 0.0
