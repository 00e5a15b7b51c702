"""Walk through the float and the quantized model side by side, unit by unit, over all samples at once.

A method that chooses one layer's integers needs that layer's input in the float model and in the model whose earlier
layers are quantized already. Running both models anew for every layer costs the square of the depth; here each unit
runs once on each side, and a value is released after its last reader. Memory: the samples times the widest cut through
the model; bound it by the number of samples.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from edgeq.errors import DataError
from edgeq.graph.execute import as_tensor
from edgeq.graph.graph import Graph, name
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.simulate.fake_quantize import fake_quantize
from edgeq.simulate.integer import call_node

#: One value over all samples: a tensor for each batch.
Batches = list[torch.Tensor]


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
    """

    graph: Graph
    skeleton: Skeleton
    activations: Mapping[str, Quantization]
    constants: Mapping[str, QuantizedConstant] = field(default_factory=dict)
    real: dict[str, Batches] = field(default_factory=dict)
    quantized: dict[str, Batches] = field(default_factory=dict)

    def start(self, samples: Iterable[tuple[torch.Tensor, ...]]) -> "Walk":
        """Take in the samples, batch by batch, in the order of the graph's inputs."""
        batches = list(samples)
        if not batches:
            raise DataError("there are no calibration samples")
        for position, value in enumerate(self.graph.inputs):
            self.real[name(value)] = self.quantized[name(value)] = [batch[position] for batch in batches]
        self._batch_count = len(batches)
        self._dead_after = _dead_after(self.graph, self.skeleton)
        self._cache: dict[str, torch.Tensor] = {}
        return self

    def units(self) -> Iterator[Unit]:
        """The units in order; call :meth:`advance` for each before asking for the next."""
        yield from self.skeleton.units

    def inputs(self, unit: Unit) -> tuple[Batches, Batches]:
        """The first input of a unit: (in the float model, in the quantized model as the unit reads it)."""
        value = unit.inputs[0]
        return self.real[value], [self._reader(unit, i, {})(value) for i in range(self._batch_count)]

    def advance(self, unit: Unit, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None) -> None:
        """Run a unit on both sides; the quantized side with that weight and bias, each in the graph's layout.

        Args:
            unit: the next one.
            weight: real values on the weight's grid; None where the weight stays in float.
            bias: (channels,); None keeps the float one.
        """
        replaced = self._replaced(unit, weight, bias)
        real: list[Batches] = [[] for _ in unit.outputs]
        quantized: list[Batches] = [[] for _ in unit.outputs]
        with torch.no_grad():
            for index in range(self._batch_count):
                for found, tensor in zip(real, self._run(unit, self._float_reader(index)), strict=False):
                    found.append(tensor)
                results = self._run(unit, self._reader(unit, index, replaced), bias)
                for found, value, tensor in zip(quantized, unit.outputs, results, strict=False):
                    found.append(self._on_grid(value, tensor) if unit.integer else tensor)
        self.real.update(zip(unit.outputs, real, strict=True))
        self.quantized.update(zip(unit.outputs, quantized, strict=True))
        for value in self._dead_after.get(unit.name, ()):
            self.real.pop(value, None)
            self.quantized.pop(value, None)

    def _replaced(self, unit: Unit, weight: torch.Tensor | None, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
        replaced: dict[str, torch.Tensor] = {}
        if weight is not None and unit.weight is not None:
            replaced[unit.weight] = weight
        if bias is not None and unit.bias is not None:
            array = self.graph.constant(unit.bias)
            assert array is not None
            replaced[unit.bias] = bias.to(torch.float32).reshape(array.shape if array.size == len(bias) else (-1,))
        return replaced

    def _float_reader(self, index: int) -> Callable[[str], torch.Tensor]:
        return lambda value: self.real[value][index] if value in self.real else self._constant(value)

    def _reader(self, unit: Unit, index: int, replaced: Mapping[str, torch.Tensor]) -> Callable[[str], torch.Tensor]:
        def read(value: str) -> torch.Tensor:
            if value in replaced:
                return replaced[value]
            if value in self.quantized:
                tensor = self.quantized[value][index]
                # Values of integer units lie on their grid already; others are quantized on the way in.
                return self._on_grid(value, tensor) if unit.integer and value in unit.inputs else tensor
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
        if grid is None:
            return tensor
        scale, zero = torch.tensor(float(grid.scale)), torch.tensor(float(grid.zero_point))
        return fake_quantize(tensor, scale, zero, grid.qmin, grid.qmax)

    def _run(
        self, unit: Unit, read: Callable[[str], torch.Tensor], bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
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
