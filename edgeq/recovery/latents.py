"""Where the latent weights begin: as close to the float weights as the plan's codes allow.

A method may have rescaled a channel (statistics repair, learned scales) or chosen codes against the nearest (GPTQ,
AdaRound). The plan holds only codes and scales, so the latent weights are found again:

    latent = g w,    g the channel's gain for which the least of g w lies outside of its code's cell
    what still lies outside is moved inside

so that every latent weight rounds to its code, one that was near a border still is, and one beyond the grid's end stays
there, where no gradient moves it. It matters: latent weights in the middle of their cells, or saturated ones drawn back
to the grid's end, lose a third of what a short training at 2 bits gains. But where a method chose a layer's codes
together (second-order rounding: each makes up for the others' errors), a code that flips for the noise of a few batches
undoes that; such a layer's latent weights begin half as far from the middle of their cells.
"""

import torch

from edgeq.graph.execute import as_tensor
from edgeq.graph.graph import Graph
from edgeq.simulate.fake_quantize import WeightQuantizer
from edgeq.simulate.simulation import Simulation

#: A moved latent weight ends this far from the middle of its cell, in steps: what a method chose against the nearest
#: code must not fall back at the first touch.
_REACH = 0.3
#: A layer with more than this part of its codes against the nearest had them chosen together.
_CHOSEN = 0.02
#: There a weight begins this much nearer to the middle of its cell.
_HELD = 0.5
#: Gains tried, around the least-squares one and then around the best.
_COARSE = tuple(2.0 ** (k / 24) for k in range(-24, 37))
_FINE = (1.0, *(2.0 ** (k / 480) for k in range(-20, 21)))


@torch.no_grad()
def begin(simulation: Simulation, graph: Graph) -> None:
    """Set the latent weights of a new simulation; its codes stay."""
    for name, quantizer in simulation.weights.items():
        array = graph.constant(name)
        assert array is not None
        real = as_tensor(array).to(quantizer.latent.device, quantizer.latent.dtype)
        quantizer.latent.copy_(_in_cell(quantizer, quantizer.lowered(real)))


def _in_cell(quantizer: WeightQuantizer, real: torch.Tensor) -> torch.Tensor:
    codes, shape = quantizer.codes(), quantizer.scale.shape
    in_steps = real / quantizer.scale
    size = in_steps.square().sum_to_size(shape).clamp_min(1e-30)
    start = (codes * in_steps).sum_to_size(shape) / size
    # A channel that rounds to nothing, or against itself, keeps its float weights.
    start = torch.where(start > 0, start, torch.ones_like(start))
    gain = _best_gain(quantizer, codes, in_steps, start, _COARSE)
    gain = _best_gain(quantizer, codes, in_steps, gain, _FINE)
    found = in_steps * gain
    beyond = _outside(quantizer, codes, found)
    if float((beyond != 0).float().mean()) > _CHOSEN:
        inside = (found - codes).abs() <= 0.5
        found = torch.where(inside, codes + _HELD * (found - codes), found)
    found = torch.where(beyond == 0, found, codes + _REACH * torch.sign(beyond))
    return found * quantizer.scale


def _best_gain(
    quantizer: WeightQuantizer,
    codes: torch.Tensor,
    in_steps: torch.Tensor,
    around: torch.Tensor,
    factors: tuple[float, ...],
) -> torch.Tensor:
    """The gain of each channel, among multiples of ``around``, for which the least lies outside of its cell."""
    gains = torch.stack([around * factor for factor in factors])
    losses = [_outside(quantizer, codes, in_steps * g).square().sum_to_size(around.shape) for g in gains]
    return gains.gather(0, torch.stack(losses).argmin(0, keepdim=True))[0]


def _outside(quantizer: WeightQuantizer, codes: torch.Tensor, in_steps: torch.Tensor) -> torch.Tensor:
    """How far a number lies outside of its code's cell, in steps, signed; the cells at the grid's ends are open."""
    above = (in_steps - codes - 0.5).clamp_min(0) * (codes < quantizer.qmax)
    below = (codes - 0.5 - in_steps).clamp_min(0) * (codes > quantizer.qmin)
    return above - below
