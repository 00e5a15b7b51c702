"""A landscape: the float point w0, the deployed point q, and the model's outputs at any point between and beyond.

    w(t) = w0 + t (q - w0),    activations a(t) = a + blend (Qa(a) - a)

A *point* is a mapping of parameter names to tensors. Weights are the layers' weights; biases belong to the path too,
because a repaired candidate has moved them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

Point = Mapping[str, torch.Tensor]
Inputs = tuple[torch.Tensor, ...]
#: Batches of inputs that can be read again and again, samples along the first axis.
Batches = Sequence[Inputs]
#: (point, inputs, blend of the activations' quantization) -> the model's outputs, samples first.
Run = Callable[[Point, Inputs, float], tuple[torch.Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Layer:
    """One quantized layer.

    Attributes:
        name: as its user knows it: the module's path, or the node's name.
        weight: its weight's parameter name.
        bias: its bias's parameter name, or None.
        step: the grid's step, broadcastable against the weight.
        qmin: the smallest whole number.
        qmax: the largest whole number.
        bits: width of a code.
        offset: codes are whole numbers plus this, broadcastable against the weight: 0.5 where the plan's are odd, whose
            step is then twice their scale.
        gain: by how much a repair has scaled the grid since the codes were chosen, broadcastable against the weight.
    """

    name: str
    weight: str
    bias: str | None
    step: torch.Tensor
    qmin: int
    qmax: int
    bits: int
    gain: torch.Tensor = field(default_factory=lambda: torch.ones(()))
    offset: torch.Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Landscape:
    """A float model and a quantized candidate of it, as points of one parameter space.

    Attributes:
        layers: in the order in which the model runs them.
        origin: the float parameters; those of the function that is deployed (batch norm folded, equalized).
        deployed: the candidate's parameters: weights on their grids, biases.
        run: the model.
        activation_bits: the fewest bits of a quantized activation, or None where activations stay in float.
    """

    layers: tuple[Layer, ...]
    origin: Point
    deployed: Point
    run: Run
    activation_bits: int | None = None

    @property
    def activations(self) -> bool:
        """Whether the candidate quantizes activations."""
        return self.activation_bits is not None

    @property
    def least_bits(self) -> int:
        """The fewest bits of any weight or activation."""
        bits = [layer.bits for layer in self.layers]
        return min(bits if self.activation_bits is None else [*bits, self.activation_bits])

    def at(self, t: float, layers: Sequence[Layer] | None = None) -> dict[str, torch.Tensor]:
        """The point w0 + t d; only those layers move if they are given."""
        moved = None if layers is None else {name for layer in layers for name in layer.parameters}
        return {
            name: w0 + t * (self.deployed[name] - w0) if moved is None or name in moved else w0
            for name, w0 in self.origin.items()
        }

    def one_by_one(self) -> "Landscape":
        """The same landscape where a batch is one sample: a recurrent model whose state has no sample axis, say.

        Every output gets a first axis of length one, on which the quantities count the sample.
        """

        def run(point: Point, inputs: Inputs, blend: float) -> tuple[torch.Tensor, ...]:
            return tuple(output.unsqueeze(0) for output in self.run(point, inputs, blend))

        return replace(self, run=run)

    def difference(self) -> dict[str, torch.Tensor]:
        """The displacement d = q - w0."""
        return {name: self.deployed[name] - w0 for name, w0 in self.origin.items()}
