"""Mean squared error: the range whose grid comes closest to the numbers seen.

    minimize over (low, high)   sum_bins count * (x - Q(x; low, high))^2

Q is the grid that the plan will use (zero exact, round to nearest, saturate). The numbers are weighed by a histogram; a
number's rounding inside of its bin is taken as uniform, which adds the same constant to every candidate. Search: shrink
both ends together over 100 factors, then each end alone around the best, then both again finely.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from edgeq.calibration.observers.histogram import Histogram

Floats = npt.NDArray[np.float64]

_COARSE = tuple(np.linspace(0.01, 1.0, 100))
_FINE = tuple(np.linspace(0.9, 1.1, 21))


class Mse(Histogram):
    """The range of least squared quantization error.

    Args:
        power: of the error's size; 2 is the squared error, 2.4 (as some use) weighs outliers more.
    """

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def range(self, bits: int, *, symmetric: bool = False) -> tuple[float, float]:
        """See :class:`Observer`."""
        low, high = (min(0.0, self.extremes.range(bits)[0]), max(0.0, self.extremes.range(bits)[1]))
        if self.reach == 0.0:
            return low, high
        if symmetric:
            high = max(-low, high)
            low = -high
        x, counts = self.occupied()
        best = _Best(lambda a, b: error(x, counts, a, b, bits, self.power, symmetric=symmetric), low, high)
        best.search([(low * f, high * f) for f in _COARSE])
        if not symmetric and low < 0.0 < high:
            best.search([(low * f, best.high) for f in _COARSE])
            best.search([(best.low, high * f) for f in _COARSE])
        best.search([(max(low, best.low * f), min(high, best.high * f)) for f in _FINE])
        return best.low, best.high


class _Best:
    """The best of the candidates so far."""

    def __init__(self, cost: Callable[[Floats, Floats], Floats], low: float, high: float) -> None:
        self.cost, self.low, self.high = cost, low, high
        self.least = float(cost(np.array([low]), np.array([high]))[0])

    def search(self, candidates: list[tuple[float, float]]) -> None:
        lows, highs = np.array(candidates).T
        costs = self.cost(lows, highs)
        index = int(np.argmin(costs))
        if costs[index] < self.least:
            self.least, self.low, self.high = float(costs[index]), float(lows[index]), float(highs[index])


def error(
    x: torch.Tensor, counts: torch.Tensor, lows: Floats, highs: Floats, bits: int, power: float, *, symmetric: bool
) -> Floats:
    """Sum of count * |x - Q(x)|^power for each candidate range (candidates,)."""
    low, high = torch.from_numpy(lows)[:, None], torch.from_numpy(highs)[:, None]
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    tiny = torch.finfo(torch.float32).tiny
    if symmetric:
        scale, zero = torch.clamp(torch.maximum(-low, high) / qmax, min=tiny), torch.zeros_like(low)
        qmin = -qmax
    else:
        scale = torch.clamp((high - low) / (qmax - qmin), min=tiny)
        zero = torch.clamp(torch.round(qmin - low / scale), qmin, qmax)
    on_grid = (torch.clamp(torch.round(x / scale) + zero, qmin, qmax) - zero) * scale
    result: Floats = ((on_grid - x).abs().pow(power) * counts).sum(1).numpy()
    return result
