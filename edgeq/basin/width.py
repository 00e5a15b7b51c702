"""b_l, the basin's half-width for layer l alone, and the fewest bits that keep the layer inside.

    noise_l(u) = u * step_l * U(-1, 1) on layer l's weights;   u_l: phi(noise_l(u_l)) = tau
    b_l = u_l * step_l (median over channels),    grid over width = step_l / (2 b_l) = 1 / (2 u_l)

Rounding to a grid is noise of amplitude step / 2, so a ratio above 1 says that this layer leaves the basin by itself.
The noise is proportional to the layer's own grid, so that channels of very different size are disturbed alike.
Bisection in ln u, started where the bowl (phi ~ u^2) would put the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.landscape import Landscape, Layer

_EVALUATIONS = 5
_CLOSE = 0.1
_LARGEST_BITS = 8


@dataclass(frozen=True)
class Width:
    """One layer's basin.

    Attributes:
        half_width: b_l, in the units of the weights (median over channels).
        grid_over_width: step / (2 b_l); above 1 the layer leaves the basin by itself.
        safe_bits: the fewest bits with which the layer takes at most its share of tau; None if 8 do not suffice.
    """

    half_width: float
    grid_over_width: float
    safe_bits: int | None


def width(landscape: Landscape, layer: Layer, reference: Reference, tau: float, seed: int = 0) -> Width:
    """The half-width of one layer, the others in float.

    Args:
        landscape: the model.
        layer: which layer.
        reference: float outputs; a few dozen samples suffice.
        tau: the altitude that bounds the basin.
        seed: of the noise; the same noise is scaled, so that phi grows smoothly.
    """
    generator = torch.Generator().manual_seed(seed)
    w0 = landscape.origin[layer.weight]
    noise = (torch.rand(w0.shape, generator=generator) * 2 - 1) * layer.step

    def phi(u: float) -> float:
        point = dict(landscape.origin) | {layer.weight: w0 + u * noise}
        return float(altitude(landscape, point, reference, 0.0)[0].mean())

    u = reach(phi, tau)
    step = float(layer.step.median())
    return Width(u * step, 1 / (2 * u), safe_bits(layer, u, tau, tau / len(landscape.layers)))


def reach(phi: Callable[[float], float], tau: float, start: float = 0.5, evaluations: int = _EVALUATIONS) -> float:
    """u with phi(u) = tau for a growing phi, to 5 %: secants in (ln u, ln phi), kept inside the bracket."""
    u, low, high = start, 0.0, np.inf
    last: tuple[float, float] | None = None
    for _ in range(evaluations):
        value = max(phi(u), 1e-12)
        if not np.isfinite(value) or value > tau:
            high = min(high, u)
        else:
            low = max(low, u)
        if np.isfinite(value) and abs(np.log(value / tau)) < _CLOSE:
            return u
        value = value if np.isfinite(value) else tau * 1e4
        slope = 2.0
        if last is not None and last[0] != u:
            slope = float(np.clip(np.log(value / last[1]) / np.log(u / last[0]), 0.7, 6.0))
        last = (u, value)
        u = float(u * np.clip((tau / value) ** (1 / slope), 1e-3, 1e3))
        if not low < u < high:
            u = float(np.sqrt(low * high)) if low > 0 and np.isfinite(high) else (high / 2 if low == 0 else low * 2)
    return u


def safe_bits(layer: Layer, u: float, tau: float, share: float) -> int | None:
    """The fewest bits whose grid (the same range cut into fewer codes) costs the layer at most ``share``."""
    limit = u * float(np.sqrt(share / tau))
    for bits in range(2, _LARGEST_BITS + 1):
        coarser = (layer.qmax + float(layer.offset.max())) / (2 ** (bits - 1) - 1)
        if 0.5 * coarser <= limit:
            return bits
    return None
