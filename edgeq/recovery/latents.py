"""Where the latent weights begin: as close to the float weights as the plan's codes allow.

A method may have rescaled a channel (statistics repair, learned scales) or chosen codes against the nearest (GPTQ,
AdaRound). The plan holds only codes and scales, so the latent weights are found again:

    g = <q, w> / <w, w>             the channel's gain, by least squares of deployed q on float w
    latent = g w,  moved into its code's cell, and not closer to a border than a tenth of a step

so that every latent weight rounds to its code, and a weight that was near a border still is.
"""

import torch

from edgeq.graph.execute import as_tensor
from edgeq.graph.graph import Graph
from edgeq.simulate.fake_quantize import WeightQuantizer
from edgeq.simulate.simulation import Simulation

#: In steps; a latent weight begins at most this far from its code.
_REACH = 0.4


@torch.no_grad()
def begin(simulation: Simulation, graph: Graph) -> None:
    """Set the latent weights of a new simulation; its codes stay."""
    for name, quantizer in simulation.weights.items():
        array = graph.constant(name)
        assert array is not None
        real = as_tensor(array).to(quantizer.latent.device, quantizer.latent.dtype)
        quantizer.latent.copy_(_in_cell(quantizer, real))


def _in_cell(quantizer: WeightQuantizer, real: torch.Tensor) -> torch.Tensor:
    codes = quantizer.codes()
    deployed = codes * quantizer.scale
    size = real.square().sum_to_size(quantizer.scale.shape)
    gain = (deployed * real).sum_to_size(quantizer.scale.shape) / size.clamp_min(1e-30)
    # A channel that rounds to nothing, or against itself, keeps its float weights.
    gain = torch.where(gain > 0, gain, torch.ones_like(gain))
    # Beyond the grid's ends a latent weight may be anywhere: it saturates. It starts at most half a step outside.
    offset = (gain * real / quantizer.scale - codes).clamp(-_REACH, _REACH)
    return (codes + offset) * quantizer.scale
