"""The int32 sums of a convolution or matrix product, exact in floating point."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from edgeq.graph.execute import context
from edgeq.graph.graph import Graph, attributes, name
from edgeq.graph.ops import OPS
from edgeq.plan.plan import Plan, Unit

#: float32 holds every integer up to here, so a sum that stays under it is exact in any order.
_EXACT_FLOAT32 = 2**24
#: A weight of more codes is brought into floating point anew for each batch: its parts are eight times its size.
_LARGE = 1 << 24


class Accumulator:
    """The int32 accumulator of one weighted unit, computed exactly in floating point."""

    def __init__(self, graph: Graph, plan: Plan, unit: Unit) -> None:
        assert unit.weight is not None
        self.graph, self.node = graph, graph.node(unit.name)
        weight, grid = plan.weights[unit.weight], plan.activations[unit.inputs[0]]
        self.zero = int(grid.zero_point)
        reach = max(grid.qmax - self.zero, self.zero - grid.qmin)
        axis = weight.quantization.axis
        codes = weight.codes
        biases = plan.biases[unit.name].codes
        bias_reach = int(np.abs(biases).max(initial=0))
        self.codes, self.halved = codes, False
        self.part_type = self.dtype = torch.float64
        if axis is not None and _largest_sum(codes, axis) * reach + bias_reach < _EXACT_FLOAT32:
            self.part_type = self.dtype = torch.float32
        elif axis is not None and all(_largest_sum(part, axis) * reach < _EXACT_FLOAT32 for _, part in _halves(codes)):
            self.halved, self.part_type = True, torch.float32
        self._kept = None if codes.size > _LARGE else tuple(self._made())
        self.rank = codes.ndim
        bias = _floats(biases, self.dtype)
        scale = torch.from_numpy(weight.quantization.scale)
        self.channel_axis = 1 if unit.op in ("Conv", "ConvTranspose") else -1
        self.bias, self.scale = (self._spread(t, unit) for t in (bias, scale))

    def _made(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(factor, what of the weight it multiplies), one at a time."""
        for factor, part in _halves(self.codes) if self.halved else ((1, self.codes),):
            yield factor, _floats(part, self.part_type)

    def _spread(self, per_channel: torch.Tensor, unit: Unit) -> torch.Tensor:
        if per_channel.ndim == 0 or self.channel_axis == -1:
            return per_channel
        assert unit.weight is not None
        return per_channel.reshape(-1, *[1] * (self.rank - 2))

    def accumulate(self, codes: torch.Tensor) -> torch.Tensor:
        """Sum of (code - zero point) x weight code + bias: integers, float32 where they fit exactly, else float64."""
        centred = codes - self.zero
        total: torch.Tensor | None = None
        for factor, weight in self._made() if self._kept is None else self._kept:
            product = self._product(centred.to(weight.dtype), weight)
            if self.halved:
                product = product.to(self.dtype).mul_(factor)
            total = product if total is None else total.add_(product)
        assert total is not None
        return total.add_(self.bias)

    def _product(self, centred: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        values = {name(self.node.inputs[0]): centred, name(self.node.inputs[1]): weight}  # type: ignore[arg-type]
        op = OPS[self.node.domain, self.node.op_type]
        args = [values[name(value)] for value in self.node.inputs[:2] if value is not None]
        result: torch.Tensor = op.function(
            *args, **attributes(self.node), **context(op.function, self.node, self.graph.opset)
        )
        return result


def _halves(codes: npt.NDArray[np.integer]) -> Iterator[tuple[int, npt.NDArray[np.integer]]]:
    """Low and high nibbles: two float32 products are exact where one is not, and much faster than float64."""
    wide = codes.astype(np.int16) if codes.dtype == np.int8 else codes
    high = ((wide + 8) >> 4).astype(codes.dtype)
    yield 16, high
    yield 1, (wide - (high.astype(wide.dtype) << 4)).astype(codes.dtype)


def _largest_sum(codes: npt.NDArray[np.integer], axis: int) -> int:
    """The largest sum of magnitudes that one output channel adds up."""
    others = tuple(position for position in range(codes.ndim) if position != axis)
    # int8 holds no +128: its magnitudes are taken as uint8.
    sizes = np.abs(codes).view(np.uint8) if codes.dtype == np.int8 else np.abs(codes)
    return int(sizes.sum(others, np.int64).max(initial=0))


def _floats(codes: npt.NDArray[np.integer], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(codes.astype(np.float32 if dtype == torch.float32 else np.float64))


__all__ = ["Accumulator"]
