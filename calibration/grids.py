"""The grids of a plan that every rounding method shares: activations, weight scales, biases, constant operands.

Activations: from the observed ranges, one grid per group; 16 bits are symmetric, as LiteRT's kernels demand.
Weights: symmetric, -(2^(b-1)-1) .. 2^(b-1)-1, of 2 and 3 bits mostly the odd numbers (``parity.py``); a scale per
output channel (or one for the tensor, or for each block of an output's inputs, in half precision, as LiteRT stores it).
Biases: int32, scale = input scale x weight scale, zeros where the model has none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeq.calibration.ranges import Ranges
from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.quantization import (
    LARGEST_BIAS,
    Number,
    Quantization,
    QuantizedConstant,
    affine_from_range,
    covering_power,
    half_precision,
    quantized_bias,
)

Array = npt.NDArray[np.float32]

#: No channel's scale is smaller than this part of the tensor's largest: a channel so faint rounds to zero after it.
SMALLEST_RATIO = 2.0**-20


def activation_grids(skeleton: Skeleton, ranges: Ranges) -> dict[str, Quantization]:
    """The grid of every quantized value: prescribed, or from its group's range."""
    by_group: dict[str, Quantization] = {}
    for group in dict.fromkeys(skeleton.groups.values()):
        if group in skeleton.fixed:
            by_group[group] = skeleton.fixed[group]
            continue
        bits = skeleton.activation_bits(group)
        symmetric = skeleton.symmetric or bits == 16 or group in skeleton.centred
        by_group[group] = affine_from_range(
            *ranges[group], bits, symmetric=symmetric, power_of_two=skeleton.power_of_two
        )
    return {value: by_group[group] for value, group in skeleton.groups.items()}


@dataclass(frozen=True, eq=False)
class Weighted:
    """One weight with all that reads it.

    Attributes:
        name: the weight's value.
        real: float32, in the graph's layout.
        bits: width of a code.
        axis: its output channels, or None for one scale.
        readers: the units that read it, in order.
        block: how many inputs of an output share a scale; 0 for all.
        parity: None, or of each row's codes (``Quantization.parity``).
        power_of_two: its scales are powers of two.
    """

    name: str
    real: Array
    bits: int
    axis: int | None
    readers: tuple[Unit, ...]
    block: int = 0
    parity: npt.NDArray[np.int64] | None = None
    power_of_two: bool = False

    @property
    def qmax(self) -> int:
        """The largest code."""
        return largest_code(self.bits, self.parity)

    @property
    def covering(self) -> npt.NDArray[np.float64]:
        """The scales that just cover each of :attr:`rows`; 0 where all is zero."""
        top = self.qmax if self.parity is None else self.qmax - 1 + self.parity
        return np.asarray(np.abs(self.rows).max(1, initial=0.0) / top, np.float64)

    @property
    def rows(self) -> Array:
        """The weight as (scales, numbers on that scale)."""
        if self.block:
            cut = self.real.reshape(*_spread(self.real.shape, self._inputs, self.block))
            return np.moveaxis(cut, self._inputs + 1, -1).reshape(-1, self.block)
        if self.axis is None:
            return self.real.reshape(1, -1)
        return np.moveaxis(self.real, self.axis, 0).reshape(self.real.shape[self.axis], -1)

    @property
    def _inputs(self) -> int:
        """The axis of a matrix that its products sum over."""
        return 1 - (self.axis or 0)

    def grid(self, scale: npt.NDArray[np.floating]) -> Quantization:
        """The grid of those scales, one for each of :attr:`rows`."""
        shaped = self.shaped(np.asarray(scale, np.float32))
        parity = None if self.parity is None else self.shaped(self.parity)
        axis = self._inputs if self.block else self.axis
        zero = np.zeros(shaped.shape, np.int64)
        return Quantization(shaped, zero, self.bits, axis, narrow=True, block=self.block, parity=parity)

    def shaped(self, part: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """What there is for each of :attr:`rows`, in the shape of the grid's scales."""
        if not self.block:
            return part.reshape(() if self.axis is None else (-1,))
        return part.reshape([s // self.block if i == self._inputs else s for i, s in enumerate(self.real.shape)])


#: A weight -> the parity of each of its rows' codes, or None (``parity.py``).
Parities = Callable[[Weighted], npt.NDArray[np.int64] | None]


def largest_code(bits: int, parity: object | None) -> int:
    """The largest code of a weight of so many bits."""
    return int(2 ** (bits - (parity is None))) - 1


def weighted(graph: Graph, skeleton: Skeleton, parities: Parities) -> dict[str, Weighted]:
    """Every weight that the skeleton quantizes, by value name, in the order of the units.

    Args:
        graph: the model.
        skeleton: what is quantized.
        parities: which codes of 2 and 3 bits are odd (``parity.py``).

    Raises:
        PlanError: two units share a weight and want it with different bits.
    """
    readers: dict[str, list[Unit]] = {}
    for unit in skeleton.units:
        if unit.weight is not None and skeleton.bits[unit.name].weights is not None:
            readers.setdefault(unit.weight, []).append(unit)
    found: dict[str, Weighted] = {}
    for value, units in readers.items():
        widths = {(skeleton.bits[unit.name].weights, skeleton.bits[unit.name].block) for unit in units}
        if len(widths) > 1:
            raise PlanError(f"weight {value!r} is shared by {', '.join(u.name for u in units)}; give them equal bits")
        axes = {_scale_axis(graph, unit) for unit in units}
        real = graph.constant(value)
        assert real is not None
        # Units that disagree on which axis is the output's can share a weight with one scale only.
        axis = axes.pop() if skeleton.per_channel and len(axes) == 1 else None
        asked, block = widths.pop()
        bits = asked or 8
        own = block or 0 if axis is not None else 0
        whole = Weighted(
            value, np.asarray(real, np.float32), bits, axis, tuple(units), own, power_of_two=skeleton.power_of_two
        )
        found[value] = replace(whole, parity=parities(whole))
    return found


def _spread(shape: tuple[int, ...], axis: int, block: int) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] // block, block, *shape[axis + 1 :])


def _scale_axis(graph: Graph, unit: Unit) -> int | None:
    node = graph.node(unit.name)
    # In a grouped transposed convolution one index of the weight's axis serves a channel of every group.
    grouped = node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) != 1
    return None if grouped else output_axis(node)


def safe_scales(
    weight: Weighted, wanted: npt.NDArray[np.floating], graph: Graph, activations: Mapping[str, Quantization]
) -> Array:
    """The wanted scales, one for each of the weight's rows, widened where a kernel could not compute with them.

    - A dead channel (all zero) gets the median of the living ones; all dead: 1 / qmax.
    - A scale under ``SMALLEST_RATIO`` of the largest is raised to it.
    - A block's scale is a number of half precision.
    - A scale on which a reader's bias would exceed ``LARGEST_BIAS`` codes is raised until it fits.
    """
    scale = np.asarray(wanted, np.float64).copy()
    alive = np.abs(weight.rows).max(1, initial=0.0) > 0
    scale[~alive] = np.median(scale[alive]) if alive.any() else 1.0 / weight.qmax
    scale = np.maximum(scale, max(scale.max() * SMALLEST_RATIO, float(np.finfo(np.float32).tiny)))
    if weight.block:
        return half_precision(covering_power(scale) if weight.power_of_two else scale)
    for unit in weight.readers:
        bias = real_bias(graph, unit)
        if unit.integer and bias is not None:
            needed = np.abs(bias) / (float(activations[unit.inputs[0]].scale) * LARGEST_BIAS)
            folded = needed.max(keepdims=True) if weight.axis is None else needed
            scale = np.maximum(scale, folded)
    return (covering_power(scale) if weight.power_of_two else scale).astype(np.float32)


def real_bias(graph: Graph, unit: Unit) -> npt.NDArray[np.float64] | None:
    """A unit's bias as float64 (channels,), or None if it has none."""
    if unit.bias is None:
        return None
    array = graph.constant(unit.bias)
    assert array is not None
    channels = output_channels(graph, unit)
    return np.broadcast_to(np.asarray(array, np.float64).reshape(-1), (channels,))


def output_channels(graph: Graph, unit: Unit) -> int:
    """How many output channels a weighted unit has."""
    assert unit.weight is not None
    weight, node = graph.constant(unit.weight), graph.node(unit.name)
    assert weight is not None
    groups = int(node.attributes.get_int("group", 1)) if node.op_type == "ConvTranspose" else 1
    return int(weight.shape[output_axis(node)]) * groups


def bias_codes(
    graph: Graph,
    skeleton: Skeleton,
    activations: Mapping[str, Quantization],
    weights: Mapping[str, QuantizedConstant],
) -> dict[str, QuantizedConstant]:
    """The bias of every integer unit with a weight."""
    found: dict[str, QuantizedConstant] = {}
    for unit in skeleton.units:
        if unit.integer and unit.weight is not None:
            real = real_bias(graph, unit)
            real = np.zeros(output_channels(graph, unit)) if real is None else real
            found[unit.name] = quantized_bias(real, activations[unit.inputs[0]], weights[unit.weight].quantization)
    return found


def constant_codes(graph: Graph, skeleton: Skeleton) -> dict[str, QuantizedConstant]:
    """Constant operands of integer units, each on the grid of its own minimum and maximum."""
    found: dict[str, QuantizedConstant] = {}
    for unit in skeleton.units:
        for value in unit.inputs if unit.integer else ():
            array = graph.constant(value)
            if array is None:
                continue
            real = np.asarray(array, np.float32)
            bits = max(skeleton.bits[unit.name].activations or 8, 8)
            grid = affine_from_range(
                float(real.min(initial=0.0)), float(real.max(initial=0.0)), bits,
                symmetric=skeleton.symmetric or bits == 16, power_of_two=skeleton.power_of_two,
            )  # fmt: skip
            found[value] = QuantizedConstant(grid.quantize(real), grid)
    return found
