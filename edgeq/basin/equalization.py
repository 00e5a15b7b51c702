"""Recognize weights that a tool has rescaled across layers (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019) and undo it.

    W' = diag(a) W diag(c),   a, c > 0,  with the next layer taking 1 / a on its inputs

leaves the float function as it was. Compared with W, such weights look far away though nothing was lost. The diagonals
are found by alternating least squares; dividing by them gives weights in the float model's own units. What does not
cancel between the layers (a fault, then, and not an equalization) shows in the file's outputs, which are taken as they
are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
_ROUNDS = 12
#: Weights that a diagonal brings this near belong together; a fit of few numbers per channel comes near by chance.
_SURE = 0.85
#: Share of the squared error that may be left for a rescaling to be believed; rounding to a grid is not explained away.
_LEFT = 0.25


@dataclass(frozen=True, eq=False)
class Rescaling:
    """A rescaled weight.

    Attributes:
        factor: a x c, float32 of the weight's shape: the file's weight divided by it is in the float model's units.
        cosine: of the weight so divided and the float weight.
    """

    factor: Array
    cosine: float


def rescaling(found: Array, weight: Array) -> Rescaling | None:
    """The positive diagonals between two weights (first axis and second axis), or None where they explain nothing.

    Args:
        found: the file's weight.
        weight: the float model's, of the same shape.
    """
    if found.ndim < 2 or not (np.isfinite(found).all() and np.isfinite(weight).all()):
        return None
    rows = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
    seen = found.reshape(rows.shape).astype(np.float64)
    a, c = np.ones(rows.shape[0]), np.ones(rows.shape[1])
    for _ in range(_ROUNDS):
        a = _fit(seen, rows * c[None, :, None], (1, 2))
        c = _fit(seen, rows * a[:, None, None], (0, 2))
    factor = a[:, None, None] * c[None, :, None]
    before, after = np.square(seen - rows).sum(), np.square(seen - rows * factor).sum()
    undone = seen / factor
    size = np.linalg.norm(undone) * np.linalg.norm(rows)
    cosine = float((undone * rows).sum() / size) if size > 0 else 0.0
    if cosine < _SURE or after > _LEFT * before:
        return None
    spread = np.broadcast_to(factor, rows.shape).reshape(weight.shape)
    return Rescaling(spread.astype(np.float32), cosine)


def _fit(
    seen: npt.NDArray[np.float64], scaled: npt.NDArray[np.float64], axes: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """The best positive factor of every slice; 1 where the slice says nothing."""
    power = np.square(scaled).sum(axes)
    best = (seen * scaled).sum(axes) / np.maximum(power, 1e-30)
    usable: npt.NDArray[np.float64] = np.where((best > 0) & (power > 0), best, 1.0)
    return usable
