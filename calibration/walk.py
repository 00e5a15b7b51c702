"""Walk through the float and the quantized model side by side, unit by unit, over all samples at once.

A method that chooses one layer's integers needs that layer's input in the float model and in the model whose earlier
layers are quantized already. Running both models anew for every layer costs the square of the depth; here each unit
runs once on each side, and a value is released after its last reader. Memory is bounded: values are held as
``streams.py`` does, and batches are cut so that no single tensor is large.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from edgeq.calibration.streams import Streams, decode, encode
from edgeq.errors import DataError
from edgeq.graph.execute import as_tensor, iterate_values, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.simulate.integer import call_node

#: A batch is cut until its largest value is no larger: allocators hand out such blocks again without new page faults.
LARGEST_TENSOR = 16 * 2**20

Inputs = tuple[torch.Tensor, ...]


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
        for batch in _cut(self.graph, samples, most):
            for value, tensor in zip(self.graph.inputs, batch, strict=True):
                self.real.append(name(value), tensor)
                self.quantized.append(name(value), tensor)
            self.batches += 1
        if not self.batches:
            raise DataError("there are no calibration samples")
        self._dead_after = _dead_after(self.graph, self.skeleton)
        self._cache: dict[str, torch.Tensor] = {}
        return self

    def units(self) -> Iterator[Unit]:
        """The units in order; call :meth:`advance` for each before asking for the next."""
        yield from self.skeleton.units

    def inputs(self, unit: Unit, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch of a unit's first input: (in the float model, in the quantized model as the unit reads it)."""
        value = unit.inputs[0]
        return self.real_reader(index)(value), self.reader(unit, index, {})(value)

    def advance(self, unit: Unit, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None) -> None:
        """Run a unit on both sides; the quantized side with that weight and bias, each in the graph's layout.

        Args:
            unit: the next one.
            weight: real values on the weight's grid; None where the weight stays in float.
            bias: (channels,); None keeps the float one.
        """
        replaced = self.replaced(unit, weight, bias)
        with torch.no_grad():
            for index in range(self.batches):
                results = self.run(unit, self.real_reader(index))
                for value, tensor in zip(unit.outputs, results, strict=False):
                    self.real.append(value, tensor)
                results = self.run(unit, self.reader(unit, index, replaced), bias)
                for value, tensor in zip(unit.outputs, results, strict=False):
                    self.quantized.append(value, tensor, self.activations.get(value) if unit.integer else None)
        for value in self._dead_after.get(unit.name, ()):
            self.real.drop(value)
            self.quantized.drop(value)

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
        self, unit: Unit, read: Callable[[str], torch.Tensor], bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """One unit on what ``read`` gives by value name: its outputs, not yet on a grid."""
        values: dict[str, torch.Tensor] = {}

        def read_inside(value: str) -> torch.Tensor:
            return values[value] if value in values else read(value)

        results: tuple[torch.Tensor, ...] = ()
        for position, node_name in enumerate(unit.nodes):
            node = self.graph.node(node_name)
            results = call_node(self.graph, node, read_inside)
            if position == 0 and bias is not None and unit.bias is None:
                results = (results[0] + _spread(bias, results[0], node), *results[1:])
            values |= {name(v): r for v, r in zip(node.outputs, results, strict=False) if v.name}
        return results


def _cut(graph: Graph, samples: Iterable[Inputs], limit: int | None) -> Iterator[Inputs]:
    """The samples in batches whose largest value stays small; a model of fixed batch takes them as they are."""
    fixed = any(value.shape is None or isinstance(value.shape[0], int) for value in graph.inputs if value.shape != ())
    most = 0
    for batch in samples:
        if fixed or not all(tensor.ndim and len(tensor) == len(batch[0]) for tensor in batch):
            yield batch
            continue
        if not most:
            with torch.no_grad():
                one = tuple(tensor[:1] for tensor in batch)
                largest = max(t.numel() * t.element_size() for _, t in iterate_values(to_torch(graph), one))
            most = max(1, min(LARGEST_TENSOR // max(largest, 1), limit or len(batch[0])))
        yield from zip(*(torch.split(tensor, most) for tensor in batch), strict=True)


def _spread(bias: torch.Tensor, output: torch.Tensor, node: ir.Node) -> torch.Tensor:
    shape = [1] * output.ndim
    shape[1 if node.op_type in ("Conv", "ConvTranspose") else -1] = -1
    return bias.to(torch.float32).reshape(shape)


def _dead_after(graph: Graph, skeleton: Skeleton) -> dict[str, list[str]]:
    last: dict[str, str] = {}
    for unit in skeleton.units:
        for node_name in unit.nodes:
            read = [v for v in graph.node(node_name).inputs if v is not None and graph.constant(v) is None]
            last |= dict.fromkeys((name(v) for v in read), unit.name)
        for output in unit.outputs:
            last.setdefault(output, unit.name)
    dead: dict[str, list[str]] = {}
    for value, unit_name in last.items():
        dead.setdefault(unit_name, []).append(value)
    return dead
