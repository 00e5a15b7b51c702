"""Learning rates in units of the quantization step, so that one number fits every layer and every bit width.

Adam moves each number by about its learning rate per update. A weight that moves by a whole step per update jumps from
code to code; one that moves by a hundredth of it crosses a rounding border after tens of updates that agree. So:

    a weight moves by    rate x median step of its layer
    a scale by           rate x Recipe.scales (or .activations) x that scale
    a bias by            rate x Recipe.biases x root mean square of the layer's biases

per update at the top of the schedule. A batch's gradient is mostly noise, and Adam gives noise and signal the same
length: over n updates a weight wanders by rate sqrt(n) steps without aim and is drawn by rate n times the signal's
share. What the wandering does, codes flipped for nothing, depends on its length alone, whatever the run's; so that
length is held, and a longer run goes slower and further towards its aim:

    rate = 0.17 max(1, sqrt(D / 0.25)) / sqrt(updates),   at most 0.012

A start with a divergence D far outside of the basin has little to lose by noise, and a longer way to go.

Layers of more than 4 bits take the step that their range would have at 4 bits: they are to move as the float model
would, not a sixteenth of it because their grid is finer.
"""

import math
from dataclasses import dataclass, replace

import torch

from edgeq.plan.plan import Plan
from edgeq.recovery.step_sizes import gradient_scale, learnable_activations
from edgeq.simulate.fake_quantize import BiasQuantizer, WeightQuantizer
from edgeq.simulate.simulation import Simulation

#: How far a weight may wander without aim in the whole run, in steps.
_WANDERS = 0.17
_MOST = 0.012
#: Beyond this divergence it may wander more.
_FAR = 0.25
#: qmax of the widest grid whose own step is the unit: 4 bits.
_COARSE_QMAX = 7


@dataclass(frozen=True)
class Recipe:
    """How fast everything learns.

    Attributes:
        rate: of the latent weights, in steps per update; None takes the automatic rate.
        scales: of the weight scales, as a multiple of the rate; 0 freezes them, as it does in the next two.
        activations: of the activation scales.
        biases: of the latent biases.
        warm_up: part of the run in which the rate rises.
        momentum: Adam's two decay rates.
        average: decay of the moving average of everything that learns; 0 keeps none.
        polyak: instead of Adam, gradient steps of ``polyak x loss / |gradient|^2`` (Polyak 1987; the optimum is 0 with
            the float model as teacher); 0 uses Adam.
        temperatures: of the divergences whose sum is trained on. At 1 a sample that the float model is sure of teaches
            next to nothing; a high one compares all its logits. Judged and watched is the divergence at 1.
        features: weight of the features' distance in the loss; 0 compares outputs alone. None: 1 where samples are few
            and outputs alone would be learnt by heart, 0 where they are many.
        fine_bits: activations of at least so many bits stay real while training, and their grids as they are.
        freeze_above: a weight whose code flips in more than this part of the updates is frozen; 0 freezes none.
    """

    rate: float | None = None
    scales: float = 0.05
    activations: float = 0.25
    biases: float = 0.1
    warm_up: float = 0.1
    momentum: tuple[float, float] = (0.9, 0.999)
    average: float = 0.995
    polyak: float = 0.0
    temperatures: tuple[float, ...] = (1.0, 8.0)
    features: float | None = None
    fine_bits: int = 8
    freeze_above: float = 0.0

    def settled(self, samples: int | None) -> "Recipe":
        """With every automatic weight chosen for so many samples; None is a stream of unknown length."""
        if self.features is not None:
            return self
        return replace(self, features=1.0 if samples is not None and samples < FEW_SAMPLES else 0.0)


#: Below so many samples the features are compared too.
FEW_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters that share a rate.

    Attributes:
        parameter: what learns.
        unit: the length that its rate is measured in.
        rate: as a multiple of the recipe's rate.
        gradient_scale: LSQ's factor for scales, which plain gradient steps need; 1 for others.
    """

    parameter: torch.Tensor
    unit: float
    rate: float
    gradient_scale: float = 1.0


def automatic_rate(updates: int, divergence: float) -> float:
    """The rate for a run of so many updates from a start with that divergence."""
    return min(_WANDERS * max(1.0, math.sqrt(max(divergence, 0.0) / _FAR)) / math.sqrt(updates), _MOST)


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
    found = [Group(q.latent, weight_unit(q), 1.0) for q in weights]
    found += [Group(q.scale, float(q.scale.detach().median()), recipe.scales, _lsq(q)) for q in weights]
    biases = [b for u in chosen if isinstance(b := simulation.biases.get(u.name), BiasQuantizer)]
    sizes = [float(b.latent.detach().square().mean().sqrt()) for b in biases]
    usual = sorted(size for size in sizes if size > 0)
    typical = usual[len(usual) // 2] if usual else 1.0
    found += [Group(b.latent, size or typical, recipe.biases) for b, size in zip(biases, sizes, strict=True)]
    found += [
        Group(q.scale, float(q.scale.detach().abs()), recipe.activations)
        for _, q in learnable_activations(simulation, plan)
        if q.bits < recipe.fine_bits
    ]
    return tuple(group for group in found if group.rate > 0)


def _lsq(quantizer: WeightQuantizer) -> float:
    return gradient_scale(quantizer.latent.numel() // quantizer.scale.numel(), quantizer.qmax)
