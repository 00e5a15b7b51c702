"""Walk through the float and the quantized model side by side, unit by unit, over all samples at once.

A method that chooses one layer's integers needs that layer's input in the float model and in the model whose earlier
layers are quantized already. Running both models anew for every layer costs the square of the depth; here each unit
runs once on each side, and a value is released after its last reader. Memory is bounded: values are held as
``streams.py`` does, and batches are cut so that no single tensor is large (``batch.py``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from edgeq.calibration.batch import Inputs, cut
from edgeq.calibration.output import Output
from edgeq.calibration.streams import Streams, decode, encode
from edgeq.errors import DataError
from edgeq.graph.execute import as_tensor
from edgeq.graph.graph import Graph, name
from edgeq.plan.ops import channel_axis
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.simulate.integer import call_node

#: Bytes of a unit's products that are held.
HELD = 128 * 2**20

_Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(eq=False)
class Walk:
    """Both models at one point of their way.

    Attributes:
        graph: the model.
        skeleton: what is quantized.
        activations: value -> grid.
        constants: quantized constant operands.
        real: value -> its batches in the float model.
        quantized: value -> its batches in the quantized model, as real numbers on their grid.
        batches: how many.
    """

    graph: Graph
    skeleton: Skeleton
    activations: Mapping[str, Quantization]
    constants: Mapping[str, QuantizedConstant] = field(default_factory=dict)
    real: Streams = field(default_factory=Streams)
    quantized: Streams = field(default_factory=Streams)
    batches: int = 0

    def start(self, samples: Iterable[Inputs], most: int | None = None) -> "Walk":
        """Take in the samples, batch by batch, in the order of the graph's inputs.

        Args:
            samples: the batches.
            most: samples in a batch, where the model allows to cut it.

        Raises:
            DataError: there are none.
        """
        for batch in cut(self.graph, samples, most):
            for value, tensor in zip(self.graph.inputs, batch, strict=True):
                self.real.append(name(value), tensor)
                self.quantized.append(name(value), tensor)
            self.batches += 1
        if not self.batches:
            raise DataError("there are no calibration samples")
        self._dead_after = _dead_after(self.graph, self.skeleton)
        self._cache: dict[str, torch.Tensor] = {}
        self._products: _Products | None = None
        return self

    def units(self) -> Iterator[Unit]:
        """The units in order; call :meth:`advance` for each before asking for the next."""
        yield from self.skeleton.units

    def inputs(self, unit: Unit, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch of a unit's first input: (in the float model, in the quantized model as the unit reads it)."""
        value = unit.inputs[0]
        return self.real_reader(index)(value), self.reader(unit, index, {})(value)

    def multiply(self, unit: Unit, factor: torch.Tensor) -> tuple[Output, Output]:
        """Multiply a unit's inputs by its weight, without the bias; :meth:`advance` goes on from the products.

        Args:
            unit: the next one, with a weight.
            factor: the weight on the quantized side, in the graph's layout; codes, where the scale is still open.

        Returns:
            What the float weight makes of the float inputs, and what ``factor`` makes of the quantized ones.
        """
        if self._products is None or not self._products.are(unit, factor):
            axis = channel_axis(unit.op)
            sides = Output(axis), Output(axis)
            held: list[_Pair] = []
            small = False
            for index in range(self.batches):
                pair = self._multiplied(unit, factor, index)
                for side, product in zip(sides, pair, strict=True):
                    side.add(product)
                if not index:  # the first batch is the largest
                    small = self.batches * sum(product.numel() * product.element_size() for product in pair) <= HELD
                if small:
                    held.append(pair)
            self._products = _Products(unit.name, factor, sides, held)
        return self._products.outputs

    def _multiplied(self, unit: Unit, factor: torch.Tensor, index: int) -> _Pair:
        """One batch of a unit's products in the float and in the quantized model."""
        anchor, replaced = self.graph.node(unit.name), {unit.weight or "": factor}
        with torch.no_grad():
            real, quantized = (
                call_node(self.graph, anchor, _without(unit.bias, read))[0]
                for read in (self.real_reader(index), self.reader(unit, index, replaced))
            )
        return real, quantized

    def advance(
        self,
        unit: Unit,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
    ) -> None:
        """Run a unit on both sides; the quantized side with that weight and bias, each in the graph's layout.

        Args:
            unit: the next one.
            weight: real values on the weight's grid; None where the weight stays in float.
            bias: (channels,); None keeps the float one.
            scale: of the products of :meth:`multiply`, (channels,) or one number; None if there are none.
        """
        replaced = self.replaced(unit, weight, bias)
        node, products = self.graph.node(unit.name), None if scale is None else self._products
        with torch.no_grad():
            for index in range(self.batches):
                sides = self.real_reader(index), self.reader(unit, index, replaced)
                first: list[torch.Tensor | None] = [None, None]
                if products is not None and scale is not None:
                    held = products.held
                    real, quantized = held[index] if held else self._multiplied(unit, products.factor, index)
                    scaled = quantized * _spread(scale, quantized, node)
                    first = [self._with_bias(unit, y, read) for y, read in zip((real, scaled), sides, strict=True)]
                for value, tensor in zip(unit.outputs, self.run(unit, sides[0], first=first[0]), strict=False):
                    self.real.append(value, tensor)
                for value, tensor in zip(unit.outputs, self.run(unit, sides[1], bias, first[1]), strict=False):
                    self.quantized.append(value, tensor, self.activations.get(value) if unit.integer else None)
        self._products = None
        for value in self._dead_after.get(unit.name, ()):
            self.real.drop(value)
            self.quantized.drop(value)

    def _with_bias(self, unit: Unit, product: torch.Tensor, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """A product with the bias that its own node adds."""
        anchor = self.graph.node(unit.name)
        if unit.bias is None or all(value is None or value.name != unit.bias for value in anchor.inputs):
            return product
        return product + _spread(read(unit.bias).reshape(-1), product, anchor)

    def replaced(self, unit: Unit, weight: torch.Tensor | None, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """A unit's chosen weight and bias by value name, in the graph's layout."""
        replaced: dict[str, torch.Tensor] = {}
        if weight is not None and unit.weight is not None:
            replaced[unit.weight] = weight
        if bias is not None and unit.bias is not None:
            array = self.graph.constant(unit.bias)
            assert array is not None
            replaced[unit.bias] = bias.to(torch.float32).reshape(array.shape if array.size == len(bias) else (-1,))
        return replaced

    def real_reader(self, index: int) -> Callable[[str], torch.Tensor]:
        """What a unit reads in one batch of the float model."""
        return lambda value: self.real.get(value, index) if value in self.real else self._constant(value)

    def reader(self, unit: Unit, index: int, replaced: Mapping[str, torch.Tensor]) -> Callable[[str], torch.Tensor]:
        """What a unit reads in one batch of the quantized model, some values replaced."""

        def read(value: str) -> torch.Tensor:
            if value in replaced:
                return replaced[value]
            if value in self.quantized:
                tensor = self.quantized.get(value, index)
                # Values of integer units lie on their grid already; others are quantized on the way in.
                entering = unit.integer and value in unit.inputs and not self.quantized.on_grid(value)
                return self._on_grid(value, tensor) if entering else tensor
            if unit.integer and value in self.constants:
                return torch.from_numpy(self.constants[value].real)
            return self._constant(value)

        return read

    def _constant(self, value: str) -> torch.Tensor:
        if value not in self._cache:
            array = self.graph.constant(value)
            assert array is not None, value
            self._cache[value] = as_tensor(array)
        return self._cache[value]

    def _on_grid(self, value: str, tensor: torch.Tensor) -> torch.Tensor:
        grid = self.activations.get(value)
        return tensor if grid is None else decode(encode(tensor, grid), grid)

    def run(
        self,
        unit: Unit,
        read: Callable[[str], torch.Tensor],
        bias: torch.Tensor | None = None,
        first: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """One unit on what ``read`` gives by value name: its outputs, not yet on a grid.

        Args:
            unit: which one.
            read: a value's tensor.
            bias: of a unit that has none in the graph.
            first: what its first node makes, if that is known.
        """
        values: dict[str, torch.Tensor] = {}

        def read_inside(value: str) -> torch.Tensor:
            return values[value] if value in values else read(value)

        results: tuple[torch.Tensor, ...] = ()
        for position, node_name in enumerate(unit.nodes):
            node = self.graph.node(node_name)
            results = (first,) if position == 0 and first is not None else call_node(self.graph, node, read_inside)
            if position == 0 and bias is not None and unit.bias is None:
                results = (results[0] + _spread(bias, results[0], node), *results[1:])
            values |= {name(v): r for v, r in zip(node.outputs, results, strict=False) if v.name}
        return results


@dataclass(frozen=True, eq=False)
class _Products:
    """What :meth:`Walk.multiply` made: batch by batch, or nothing where it is large and is better made once more."""

    unit: str
    factor: torch.Tensor
    outputs: tuple[Output, Output]
    held: list[_Pair]

    def are(self, unit: Unit, factor: torch.Tensor) -> bool:
        return self.unit == unit.name and torch.equal(self.factor, factor)


def _without(bias: str | None, read: Callable[[str], torch.Tensor]) -> Callable[[str], torch.Tensor]:
    return lambda value: torch.zeros_like(read(value)) if value == bias else read(value)


def _spread(channels: torch.Tensor, output: torch.Tensor, node: ir.Node) -> torch.Tensor:
    shape = [1] * output.ndim
    shape[channel_axis(node.op_type)] = -1
    return channels.to(torch.float32).reshape(shape)


def _dead_after(graph: Graph, skeleton: Skeleton) -> dict[str, list[str]]:
    last: dict[str, str] = {}
    for unit in skeleton.units:
        for node_name in unit.nodes:
            read = [v for v in graph.node(node_name).inputs if v is not None and graph.constant(v) is None]
            last |= dict.fromkeys((name(v) for v in read), unit.name)
        for value in unit.outputs:
            last.setdefault(value, unit.name)
    dead: dict[str, list[str]] = {}
    for value, unit_name in last.items():
        dead.setdefault(unit_name, []).append(value)
    return dead
