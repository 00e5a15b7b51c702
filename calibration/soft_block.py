"""One block whose weights, scales, biases and activation steps are free: rounded forward, straight through backward.

See ``reconstruction.py`` for what it is learned by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from edgeq.calibration.blocks import Block
from edgeq.calibration.grids import weighted
from edgeq.calibration.layer import nearest_code
from edgeq.calibration.parity import of
from edgeq.calibration.walk import Walk
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.simulate.fake_quantize import fake_quantize

#: Adam's steps: of a latent number in codes, of a scale's logarithm, of a bias in sizes of its output, of a step's log.
RATES = {"latent": 3e-3, "scale": 2e-3, "bias": 2e-3, "step": 2e-3}
#: How near to the next code a weight starts at most, in codes.
NEAR = 0.3
#: Probability that a number of an activation, or of the block's input, is not quantized while learning.
DROP = 0.5

Tensors = dict[str, torch.Tensor]
Made = TypeVar("Made")


@dataclass(eq=False)
class SoftWeight:
    """A weight in the graph's layout, in units of its step: it rounds to codes forward, and moves freely backward."""

    constant: QuantizedConstant
    latent: torch.Tensor
    log_gain: torch.Tensor
    scale: torch.Tensor
    parity: torch.Tensor | None

    @classmethod
    def of(cls, constant: QuantizedConstant, real: torch.Tensor) -> "SoftWeight":
        """A weight on its grid, and the real numbers that it stands for."""
        codes = torch.from_numpy(constant.codes.astype(np.float32))
        grid = constant.quantization
        scale = torch.from_numpy(np.array(grid.scale if grid.block else grid.broadcast(codes.ndim)[0]))
        # It starts at the codes as they came, on that side of each where the real number lies.
        latent = codes + torch.clamp(real / _wide(scale, grid) - codes, -NEAR, NEAR)
        parity = grid.wide_parity(codes.ndim)
        wide = None if parity is None else torch.from_numpy(parity)
        return cls(constant, latent.requires_grad_(), torch.zeros_like(scale).requires_grad_(), scale, wide)

    def codes(self) -> torch.Tensor:
        """The codes; their gradient is the latent number's (straight through)."""
        grid = self.constant.quantization
        inside = self.latent.clamp(grid.qmin, grid.qmax)
        return inside + (nearest_code(inside.detach(), grid.qmax, self.parity) - inside).detach()

    def real(self) -> torch.Tensor:
        """The weight as real numbers."""
        return self.codes() * _wide(self.gained(), self.constant.quantization)

    def gained(self) -> torch.Tensor:
        """The scale as it was learned."""
        return self.scale * torch.exp(self.log_gain)


def _wide(scale: torch.Tensor, grid: Quantization) -> torch.Tensor:
    """Scales that multiply codes."""
    return scale.repeat_interleave(grid.block, grid.axis) if grid.block else scale


@dataclass(eq=False)
class SoftBlock:
    """The block's free parameters and its passes."""

    walk: Walk
    block: Block
    weights: dict[str, SoftWeight] = field(default_factory=dict)
    fixed: Tensors = field(default_factory=dict)
    biases: Tensors = field(default_factory=dict)
    shifts: Tensors = field(default_factory=dict)
    spreads: Tensors = field(default_factory=dict)
    log_steps: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, walk: Walk, block: Block, plan: Plan) -> "SoftBlock":
        """The block as the plan has it; a weight that other units read too stays as it is."""
        problems = weighted(walk.graph, plan.skeleton, of(plan))
        found = cls(walk, block)
        for unit in block.units:
            if unit.weight in problems:
                constant, problem = plan.weights[unit.weight], problems[unit.weight]
                if len(problem.readers) == 1:
                    found.weights[unit.weight] = SoftWeight.of(constant, torch.from_numpy(np.array(problem.real)))
                else:
                    found.fixed[unit.weight] = torch.from_numpy(constant.real)
            if unit.name in plan.biases:
                bias = torch.from_numpy(plan.biases[unit.name].real)
                found.biases[unit.name] = bias
                found.shifts[unit.name] = torch.zeros_like(bias).requires_grad_()
                # What the bias is moved in units of: a code's worth of its sum, a few hundred steps of which matter.
                found.spreads[unit.name] = _size(plan, unit)
        if plan.skeleton.power_of_two:
            return found
        found.log_steps = {group: torch.zeros(()).requires_grad_() for group in _own_groups(plan, block)}
        return found

    def parameters(self) -> list[dict[str, Any]]:
        """For an optimizer, with a learning rate each."""
        weights = self.weights.values()
        scales = [] if self.walk.skeleton.power_of_two else [w.log_gain for w in weights]
        return [
            {"params": [w.latent for w in weights], "lr": RATES["latent"]},
            {"params": scales, "lr": RATES["scale"]},
            {"params": list(self.shifts.values()), "lr": RATES["bias"]},
            {"params": list(self.log_steps.values()), "lr": RATES["step"]},
        ]

    def state(self) -> list[torch.Tensor]:
        """A copy of all that is learned."""
        return [p.detach().clone() for group in self.parameters() for p in group["params"]]

    def restore(self, state: list[torch.Tensor]) -> None:
        """Go back to a copy."""
        with torch.no_grad():
            for p, old in zip((p for group in self.parameters() for p in group["params"]), state, strict=True):
                p.copy_(old)

    def real(self, index: int) -> Tensors:
        """The float model's block outputs on one batch."""
        return self._run(lambda unit: self.walk.real_reader(index), {}, {}, None)

    def quantized(self, index: int) -> Tensors:
        """The quantized block's outputs on one batch of the quantized model's input."""
        return self._run(lambda unit: self.walk.reader(unit, index, {}), *self._chosen(), self._on_grid)

    def mixed(self, index: int, generator: torch.Generator) -> Tensors:
        """The block's outputs on one batch, numbers of its input and activations left in float at random."""

        def keep(real: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
            # One draw for all samples of the batch: drawing as many numbers would cost as much as the convolutions.
            return torch.where(torch.rand(real.shape[1:], generator=generator) < DROP, real, quantized)

        def reader(unit: Unit) -> Callable[[str], torch.Tensor]:
            quantized, real = self.walk.reader(unit, index, {}), self.walk.real_reader(index)

            def read(value: str) -> torch.Tensor:
                tensor = quantized(value)
                mixable = value in self.block.inputs and tensor.is_floating_point()
                return keep(real(value), tensor) if mixable else tensor

            return read

        def on_grid(value: str, tensor: torch.Tensor) -> torch.Tensor:
            return keep(tensor, self._on_grid(value, tensor))

        return self._run(reader, *self._chosen(), on_grid)

    def learned(self, make: Callable[..., Made]) -> Made:
        """What was learned, as arrays."""
        with torch.no_grad():
            codes = {value: w.codes().numpy() for value, w in self.weights.items()}
            scales = {value: w.gained().reshape(-1).numpy() for value, w in self.weights.items()}
            biases = {unit: self._bias(unit).numpy().astype(np.float64) for unit in self.biases}
            steps = {group: np.exp(step.numpy()) for group, step in self.log_steps.items()}
        return make(codes, scales, biases, steps)

    def _bias(self, unit_name: str) -> torch.Tensor:
        return self.biases[unit_name] + self.shifts[unit_name] * self.spreads[unit_name]

    def _chosen(self) -> tuple[Tensors, Tensors]:
        weights = {value: weight.real() for value, weight in self.weights.items()}
        return weights | self.fixed, {unit: self._bias(unit) for unit in self.biases}

    def _on_grid(self, value: str, tensor: torch.Tensor) -> torch.Tensor:
        grid = self.walk.activations.get(value)
        if grid is None:
            return tensor
        scale, zero = torch.tensor(float(grid.scale)), torch.tensor(float(grid.zero_point))
        step = self.log_steps.get(self.walk.skeleton.groups[value])
        scale = scale if step is None else scale * torch.exp(step)
        return fake_quantize(tensor, scale, zero, grid.qmin, grid.qmax)

    def _run(
        self,
        reader: Callable[[Unit], Callable[[str], torch.Tensor]],
        weights: Mapping[str, torch.Tensor],
        biases: Mapping[str, torch.Tensor],
        on_grid: Callable[[str, torch.Tensor], torch.Tensor] | None,
    ) -> Tensors:
        values: Tensors = {}
        on_its_grid = {value for unit in self.block.units if unit.integer for value in unit.outputs}
        for unit in self.block.units:
            outside, bias = reader(unit), biases.get(unit.name)
            replaced = self.walk.replaced(unit, weights.get(unit.weight or ""), bias)

            def read(value: str, unit: Unit = unit, outside: Any = outside, replaced: Any = replaced) -> torch.Tensor:
                if value in values:
                    # A float unit's value is quantized where an integer unit reads it.
                    entering = unit.integer and value in unit.inputs and value not in on_its_grid
                    return on_grid(value, values[value]) if entering and on_grid is not None else values[value]
                found: torch.Tensor = replaced[value] if value in replaced else outside(value)
                return found

            for value, tensor in zip(unit.outputs, self.walk.run(unit, read, bias), strict=False):
                values[value] = on_grid(value, tensor) if on_grid is not None and unit.integer else tensor
        return {value: values[value] for value in self.block.outputs}


def _size(plan: Plan, unit: Unit) -> torch.Tensor:
    """About how much each output channel of a unit varies, (channels,)."""
    assert unit.weight is not None
    grid, bias = plan.activations[unit.inputs[0]], plan.biases[unit.name].quantization
    codes = plan.weights[unit.weight].codes.astype(np.float64)
    per_channel = np.sqrt((codes**2).sum() / len(bias.scale)) * bias.scale * 2.0 ** (grid.bits - 3)
    return torch.from_numpy(np.maximum(per_channel, 1e-12).astype(np.float32))


def _own_groups(plan: Plan, block: Block) -> list[str]:
    """Groups of activations that no unit before the block has made or read: their steps are the block's to choose."""
    groups, units = plan.skeleton.groups, plan.units
    start = next(i for i, unit in enumerate(units) if unit.name == block.units[0].name)
    fresh = {value for unit in units[start:] if unit.integer for value in unit.outputs}
    old = {group for value, group in groups.items() if value not in fresh}
    made = {groups[v] for unit in block.units if unit.integer for v in unit.outputs if v in groups}
    return sorted(made - old - set(plan.skeleton.fixed))
