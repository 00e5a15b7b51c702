"""Learning rates in units of the quantization step, so that one number fits every layer and every bit width.

Adam moves each number by about its learning rate per update. A weight that moves by a whole step per update jumps from
code to code; one that moves by a hundredth of it crosses a rounding border after tens of updates that agree. So:

    rate of a layer's latent weights = Recipe.weights x median step of the layer
    rate of a scale                  = Recipe.scales (or .activations) x that scale
    rate of a bias                   = Recipe.biases x root mean square of the layer's biases

Layers of more than 4 bits take the step that their range would have at 4 bits: they are to move as the float model
would, not a sixteenth of it because their grid is finer.
"""

from dataclasses import dataclass

import torch

from edgeq.plan.plan import Plan
from edgeq.recovery.step_sizes import gradient_scale, learnable_activations
from edgeq.simulate.fake_quantize import BiasQuantizer, WeightQuantizer
from edgeq.simulate.simulation import Simulation

#: qmax of the widest grid whose own step is the unit: 4 bits.
_COARSE_QMAX = 7


@dataclass(frozen=True)
class Recipe:
    """How fast everything learns; 0 freezes it.

    Attributes:
        weights: of the latent weights, in steps per update.
        scales: of the weight scales, as a part of themselves.
        activations: of the activation scales, as a part of themselves.
        biases: of the latent biases, as a part of the layer's root mean square.
        warm_up: part of the run in which the rate rises.
        momentum: Adam's two decay rates.
        average: decay of the moving average of everything that learns; 0 keeps none.
        polyak: instead of Adam, gradient steps of ``polyak x loss / |gradient|^2`` (Polyak 1987; the optimum is 0 with
            the float model as teacher); 0 uses Adam.
        freeze_above: a weight whose code flips in more than this part of the updates is frozen; 0 freezes none.
    """

    weights: float = 0.004
    scales: float = 0.002
    activations: float = 0.002
    biases: float = 0.004
    warm_up: float = 0.1
    momentum: tuple[float, float] = (0.9, 0.999)
    average: float = 0.99
    polyak: float = 0.0
    freeze_above: float = 0.0


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters that share a rate.

    Attributes:
        parameter: what learns.
        unit: the length that its rate is measured in.
        rate: updates move it by about rate x unit.
        gradient_scale: LSQ's factor for scales, which plain gradient steps need; 1 for others.
    """

    parameter: torch.Tensor
    unit: float
    rate: float
    gradient_scale: float = 1.0


def weight_unit(quantizer: WeightQuantizer) -> float:
    """The length that a weight's rate is measured in: its median step, at 4 bits where it has more."""
    step = float(quantizer.scale.detach().median())
    return step * max(1.0, quantizer.qmax / _COARSE_QMAX)


def groups(
    simulation: Simulation, plan: Plan, recipe: Recipe, layers: frozenset[str] | None = None
) -> tuple[Group, ...]:
    """Everything of the simulation that learns, in a fixed order.

    Args:
        simulation: the quantized model.
        plan: where it starts.
        recipe: the rates.
        layers: learn only these units' weights and biases (by unit name); None learns all.
    """
    chosen = tuple(unit for unit in plan.units if layers is None or unit.name in layers)
    names = dict.fromkeys(unit.weight for unit in chosen if unit.weight is not None)
    weights = [simulation.weights[name] for name in names if name in simulation.weights]
    found = [Group(q.latent, weight_unit(q), recipe.weights) for q in weights]
    found += [Group(q.scale, float(q.scale.detach().median()), recipe.scales, _lsq(q)) for q in weights]
    biases = [b for u in chosen if isinstance(b := simulation.biases.get(u.name), BiasQuantizer)]
    sizes = [float(b.latent.detach().square().mean().sqrt()) for b in biases]
    usual = sorted(size for size in sizes if size > 0)
    typical = usual[len(usual) // 2] if usual else 1.0
    found += [Group(b.latent, size or typical, recipe.biases) for b, size in zip(biases, sizes, strict=True)]
    found += [
        Group(q.scale, float(q.scale.detach().abs()), recipe.activations)
        for _, q in learnable_activations(simulation, plan)
    ]
    return tuple(group for group in found if group.rate > 0)


def _lsq(quantizer: WeightQuantizer) -> float:
    return gradient_scale(quantizer.latent.numel() // quantizer.scale.numel(), quantizer.qmax)
