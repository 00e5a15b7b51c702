"""Layer by layer, front to back: choose each layer's integers knowing what the layers before it became.

For every unit with a weight, in the order of the model:
1. gather the moments of its input in the float and in the quantized model up to here (``walk.py``, ``moments.py``);
2. let the rounding method choose codes and scale for the layer's least squares (``layer.py``);
3. let the bias take up the difference of the output's means: c = b + E W x_f - E V x_q (empirical bias correction);
4. run the quantized unit, so that the next ones see its error.
A unit that is not a matrix product in one or two dimensions is rounded to nearest, with its bias corrected.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from edgeq.calibration.columns import from_rows, has_columns, scales_of_rows, to_rows
from edgeq.calibration.grids import (
    Array,
    Parities,
    Weighted,
    constant_codes,
    output_channels,
    real_bias,
    safe_scales,
    weighted,
)  # fmt: skip
from edgeq.calibration.layer import Layer, layer
from edgeq.calibration.moments import moments
from edgeq.calibration.parity import chosen
from edgeq.calibration.parts import Store, dump, load
from edgeq.calibration.walk import Walk
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant, quantized_bias

Codes = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]

#: A rounding method: the layer's problem -> codes (groups, outputs, K) and scales (groups, outputs).
Rounding = Callable[[Layer], tuple[torch.Tensor, torch.Tensor]]
#: (name of the unit, units done, units in all).
UnitProgress = Callable[[str, int, int], None]


def sequential(
    graph: Graph,
    skeleton: Skeleton,
    activations: Mapping[str, Quantization],
    samples: Iterable[tuple[torch.Tensor, ...]],
    rounding: Rounding,
    *,
    method: str,
    match_variance: bool = False,
    first_order: bool = False,
    parities: Parities = chosen,
    store: Store | None = None,
    progress: UnitProgress | None = None,
) -> Plan:
    """The plan of that rounding method.

    Args:
        graph: the model.
        skeleton: what is integer, with how many bits.
        activations: value -> grid (``grids.activation_grids``).
        samples: calibration inputs in the order of the graph's inputs, batch by batch; no labels are needed.
        rounding: chooses the codes and scales of one layer.
        method: its name, for the report.
        match_variance: scale each output so that its variance is the float model's (for 2 and 3 bits).
        first_order: the rounding looks at weights alone, so that no second moments are taken.
        parities: which codes of 2 and 3 bits are odd.
        store: keeps what is chosen for each unit; None keeps none.
        progress: called after each unit.

    Raises:
        DataError: there are no samples.
    """
    walk = Walk(graph, skeleton, activations, constant_codes(graph, skeleton)).start(samples)
    problems = weighted(graph, skeleton, parities)
    state = _State(graph, walk, problems, rounding, match_variance, first_order, store or (lambda _, make: make()))
    for done, unit in enumerate(walk.units()):
        walk.advance(unit, *state.choose(unit))
        if progress is not None:
            progress(unit.module or unit.name, done + 1, len(skeleton.units))
    return Plan(skeleton, activations, state.weights, state.biases, walk.constants, method)


@dataclass(eq=False)
class _State:
    """What has been chosen so far."""

    graph: Graph
    walk: Walk
    problems: dict[str, Weighted]
    rounding: Rounding
    match_variance: bool
    first_order: bool
    store: Store
    weights: dict[str, QuantizedConstant] = field(default_factory=dict)
    biases: dict[str, QuantizedConstant] = field(default_factory=dict)

    def choose(self, unit: Unit) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """A unit's weight and bias as real tensors, and its scale: what :meth:`Walk.advance` asks for."""
        if unit.weight is None or unit.weight not in self.problems:
            return None, None, None
        weight = self.problems[unit.weight]
        chosen = load(self.store(f"layer {unit.name}", lambda: dump(self._chosen(unit, weight))))
        constant = QuantizedConstant(chosen["codes"].astype(np.int64), weight.grid(chosen["scale"]))
        self.weights[unit.weight] = constant
        real, scale = torch.from_numpy(np.ascontiguousarray(constant.real)), None
        if has_columns(self.graph, unit) and (unit.integer or self.match_variance):
            factor, scale = _factors(constant)
            self.walk.multiply(unit, factor)
        if not unit.integer:
            return real, None, scale
        grid = self.walk.activations[unit.inputs[0]]
        self.biases[unit.name] = quantized_bias(chosen["bias"], grid, constant.quantization)
        return real, torch.from_numpy(self.biases[unit.name].real.astype(np.float64)), scale

    def _chosen(self, unit: Unit, weight: Weighted) -> dict[str, np.ndarray]:
        """Codes and scales of the unit's weight, and its real bias."""
        # A weight that several units share is chosen at the first.
        constant = self.weights.get(weight.name) or self._codes(weight, unit)
        codes = constant.codes.astype(np.int8 if weight.bits <= 8 else np.int64)
        return {"codes": codes, "scale": constant.quantization.scale, "bias": self._bias(unit, constant)}

    def _codes(self, weight: Weighted, unit: Unit) -> QuantizedConstant:
        if not has_columns(self.graph, unit):
            grid = weight.grid(safe_scales(weight, weight.covering, self.graph, self.walk.activations))
            return QuantizedConstant(grid.quantize(weight.real), grid)
        rows = torch.from_numpy(to_rows(self.graph, unit, weight.real).copy())
        per_channel = weight.axis is not None
        power = weight.power_of_two
        parity = _parity(self.graph, unit, weight, rows)
        if self.first_order:
            nothing = torch.empty(0)
            problem = Layer(rows, rows, nothing, weight.qmax, per_channel, unit.name, weight.block, parity, power)
        else:
            problem = layer(
                rows,
                moments(self.walk, unit),
                weight.qmax,
                per_channel,
                name=unit.name,
                block=weight.block,
                parity=parity,
                power_of_two=power,
            )
        codes, scale = self.rounding(problem)
        integers = from_rows(self.graph, unit, codes.numpy()).astype(np.int64)
        constant = self._on_scales(unit, weight, integers, scale)
        if not self.match_variance or power:  # which would be rounded away
            return constant
        gain = self._gain(unit, weight, constant).reshape(scale.shape[:2])
        wide = problem.storable(scale * (gain[:, :, None] if weight.block else gain))
        return self._on_scales(unit, weight, integers, wide)

    def _on_scales(self, unit: Unit, weight: Weighted, codes: Codes, scale: torch.Tensor) -> QuantizedConstant:
        """Codes (graph's layout) on the scales of their rows."""
        if weight.block:
            return QuantizedConstant(codes, weight.grid(from_rows(self.graph, unit, scale.numpy())))
        flat = scale.reshape(-1).numpy() if weight.axis is not None else scale.reshape(-1)[:1].numpy()
        safe = safe_scales(weight, flat, self.graph, self.walk.activations)
        return self._on_safe_scales(weight, codes, flat, safe)

    def _on_safe_scales(self, weight: Weighted, codes: Codes, scale: Reals, safe: Array) -> QuantizedConstant:
        grid = weight.grid(safe)
        widened = safe > scale * (1 + 1e-6)
        if not widened.any():
            return QuantizedConstant(codes, grid)
        # A channel whose scale had to be widened is rounded anew, to nearest.
        rounded = grid.quantize(weight.real)
        if weight.axis is None:
            return QuantizedConstant(rounded, grid)
        shape = [1] * codes.ndim
        shape[weight.axis] = -1
        return QuantizedConstant(np.where(widened.reshape(shape), rounded, codes), grid)

    def _bias(self, unit: Unit, constant: QuantizedConstant) -> Reals:
        original = real_bias(self.graph, unit)
        bias = np.zeros(output_channels(self.graph, unit)) if original is None else original
        if not unit.integer or not has_columns(self.graph, unit):
            return np.asarray(bias)
        factor, scale = _factors(constant)
        real, quantized = self.walk.multiply(unit, factor)
        return np.asarray(bias + (real.mean - scale * quantized.mean).numpy())

    def _gain(self, unit: Unit, weight: Weighted, constant: QuantizedConstant) -> torch.Tensor:
        """By how much each output must grow to have the float model's variance, within [1/2, 3] (channels,)."""
        factor, scale = _factors(constant)
        real, quantized = self.walk.multiply(unit, factor)
        wanted, has = real.variance, scale.square() * quantized.variance
        if weight.axis is None:
            wanted, has = (variance.sum().expand_as(variance) for variance in (wanted, has))
        return torch.sqrt(wanted.clamp(min=0) / has.clamp(min=1e-30)).clamp(0.5, 3.0)


def _factors(constant: QuantizedConstant) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight as what its products are made with, and the scale of each product: its codes, where that is possible."""
    if constant.quantization.block:
        return torch.from_numpy(np.array(constant.real)), torch.tensor(1.0)
    return torch.from_numpy(constant.codes.astype(np.float32)), torch.from_numpy(np.array(constant.quantization.scale))


def _parity(graph: Graph, unit: Unit, weight: Weighted, rows: torch.Tensor) -> torch.Tensor | None:
    """The parity of the weight's codes, shaped like the scales of its rows."""
    if weight.parity is None:
        return None
    return scales_of_rows(graph, unit, weight.shaped(weight.parity), rows, blocked=bool(weight.block))
