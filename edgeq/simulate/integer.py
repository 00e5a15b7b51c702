"""The plan run as a runtime's integer kernels run it: simulated outputs are the deployed outputs.

Unlike :class:`edgeq.simulate.Simulation` this is not differentiable. Values with a grid travel as codes; each integer
unit computes with its family's kernel; float units compute on real numbers, as in the files.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from edgeq.graph.execute import as_tensor, check_supported, context
from edgeq.graph.graph import Graph, attributes, name
from edgeq.graph.ops import OPS
from edgeq.plan.ops import FUSED_ACTIVATIONS, SAME_GRID
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization
from edgeq.simulate.accumulator import Accumulator
from edgeq.simulate.kernels.family import Family, Kernel, Operands


class IntegerSimulation(nn.Module):
    """The deployed model's integer arithmetic in PyTorch.

    Args:
        graph: the model.
        plan: its plan.
        family: whose kernels.
    """

    def __init__(self, graph: Graph, plan: Plan, family: Family) -> None:
        super().__init__()
        check_supported(graph)
        self.graph, self.plan, self.family = graph, plan, family
        self._stored = family.stored(plan).activations
        self._makers = {value: unit for unit in plan.units for value in unit.outputs}
        self._last_reader = _last_readers(graph, plan)
        self._prepared: dict[str, Accumulator] = {
            unit.name: Accumulator(graph, plan, unit) for unit in plan.units if unit.integer and unit.weight is not None
        }

    @torch.no_grad()
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Real tensors in, real tensors out."""
        codes, reals = self.run(inputs)
        results = tuple(self._real(name(value), codes, reals) for value in self.graph.outputs)
        return results[0] if len(results) == 1 else results

    @torch.no_grad()
    def run(
        self, inputs: tuple[torch.Tensor, ...], keep: Callable[[str], bool] | None = None
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """(codes by value, real tensors by value) of the graph's outputs and of every value that ``keep`` accepts."""
        codes: dict[str, torch.Tensor] = {}
        reals: dict[str, torch.Tensor] = {name(v): x for v, x in zip(self.graph.inputs, inputs, strict=True)}
        outputs = {name(value) for value in self.graph.outputs}
        for unit in self.plan.units:
            if unit.integer:
                codes[unit.outputs[0]] = self._integer_unit(unit, codes, reals)
                for value, tensor in self._other_outputs(unit, codes, reals):
                    codes[value] = tensor
            else:
                reals |= self._float_unit(unit, codes, reals)
            for value in self._last_reader.get(unit.name, ()):
                if value not in outputs and (keep is None or not keep(value)):
                    codes.pop(value, None)
                    reals.pop(value, None)
        return codes, reals

    def _codes(self, value: str, codes: dict[str, torch.Tensor], reals: dict[str, torch.Tensor]) -> torch.Tensor:
        if value in codes:
            return codes[value]
        constant = self.plan.constants.get(value)
        if constant is not None:
            return torch.from_numpy(constant.codes.astype(np.float32))
        return quantize(reals[value], self.plan.activations[value])

    def _real(self, value: str, codes: dict[str, torch.Tensor], reals: dict[str, torch.Tensor]) -> torch.Tensor:
        if value in reals:
            return reals[value]
        if value in codes:
            return dequantize(codes[value], self.plan.activations[value])
        array = self.graph.constant(value)
        assert array is not None, value
        return as_tensor(array)

    def _grid(self, value: str) -> Quantization:
        constant = self.plan.constants.get(value)
        return constant.quantization if constant is not None else self.plan.activations[value]

    def _integer_unit(self, unit: Unit, codes: dict[str, torch.Tensor], reals: dict[str, torch.Tensor]) -> torch.Tensor:
        output = self.plan.activations[unit.outputs[0]]
        clamp = clamp_codes(unit, output)
        operands = tuple(self._codes(value, codes, reals) for value in unit.inputs)
        if unit.name in self._prepared:
            accumulator = self._prepared[unit.name].accumulate(operands[0])
            input_scale = torch.as_tensor(self.plan.activations[unit.inputs[0]].scale)
            weight_scale = self._prepared[unit.name].scale
            family = self._family((self.plan.activations[unit.inputs[0]],))
            requantize = family.special.get(self._kind(unit), family.requantize)
            return torch.clamp(requantize(accumulator, input_scale, weight_scale, output), *clamp)
        grids = tuple(self._grid(value) for value in unit.inputs)
        kernel = self._family((*grids, output)).kernels.get(unit.op)
        if kernel is not None:
            return self._run_kernel(kernel, unit, operands, clamp)
        if unit.op in FUSED_ACTIVATIONS:
            return torch.clamp(operands[0], *clamp)
        if unit.op in SAME_GRID:
            return torch.clamp(self._moved(unit, operands, grids[0], reals), *clamp)
        result = self._call(unit, lambda value: self._operand(value, codes, reals))
        return torch.clamp(quantize(result, output), *clamp)

    def _run_kernel(
        self, kernel: Kernel, unit: Unit, operands: tuple[torch.Tensor, ...], clamp: tuple[int, int]
    ) -> torch.Tensor:
        """A kernel on codes as the runtime's file holds them."""
        grids = tuple(self._stored.get(value) or self._grid(value) for value in (*unit.inputs, unit.outputs[0]))
        codes = tuple(code + grid.offset if grid.offset else code for code, grid in zip(operands, grids, strict=False))
        shift = grids[-1].offset
        low, high = clamp
        more = attributes(self.graph.node(unit.name))
        clamp = (low + shift, high + shift)
        found = kernel(Operands(codes, grids[:-1], grids[-1], clamp, unit, self._first(unit), more))
        return found - shift if shift else found

    def _family(self, grids: tuple[Quantization, ...]) -> Family:
        """The kernels for these grids: 16 bits have their own."""
        if all(grid.bits <= 8 for grid in grids):
            return self.family
        return self.family.wide or replace(self.family, kernels={})

    def _first(self, unit: Unit) -> Callable[[torch.Tensor], torch.Tensor]:
        """The unit's op as a function of its first input; its other inputs are constants."""
        return lambda x: self._call(unit, lambda value: x if value == unit.inputs[0] else self._real(value, {}, {}))

    def _operand(self, value: str, codes: dict[str, torch.Tensor], reals: dict[str, torch.Tensor]) -> torch.Tensor:
        """What an integer unit reads, as a real number on its grid."""
        constant = self.plan.constants.get(value)
        if constant is not None:
            return torch.from_numpy(constant.real)
        if value in self.plan.activations:
            return dequantize(self._codes(value, codes, reals), self.plan.activations[value])
        return self._real(value, codes, reals)

    def _kind(self, unit: Unit) -> str:
        """The kernel of a weighted unit: its op, a convolution with groups apart."""
        if unit.op != "Conv" or attributes(self.graph.node(unit.name)).get("group", 1) == 1:
            return unit.op
        return "DepthwiseConv" if self.plan.weights[unit.weight or ""].codes.shape[1] == 1 else "GroupedConv"

    def _moved(
        self, unit: Unit, operands: tuple[torch.Tensor, ...], grid: Quantization, reals: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        # Centred on the zero point, so that padding with zero is padding with real zero; rounding is for averages only.
        zero = int(grid.zero_point)
        centred = {value: codes - zero for value, codes in zip(unit.inputs, operands, strict=True)}

        def read(value: str) -> torch.Tensor:
            if value in centred:
                return centred[value]
            real = self._real(value, {}, reals)
            return quantize(real, grid) - zero if unit.op == "Concat" else real  # a constant beside what is computed

        return torch.round(self._call(unit, read)) + zero

    def _other_outputs(
        self, unit: Unit, codes: dict[str, torch.Tensor], reals: dict[str, torch.Tensor]
    ) -> list[tuple[str, torch.Tensor]]:
        if len(unit.outputs) == 1:
            return []
        results = self._call_all(unit, lambda value: self._codes(value, codes, reals))
        return list(zip(unit.outputs, results, strict=True))[1:]

    def _float_unit(
        self, unit: Unit, codes: dict[str, torch.Tensor], reals: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        environment: dict[str, torch.Tensor] = {}

        def read(value: str) -> torch.Tensor:
            if value in environment:
                return environment[value]
            if value == unit.weight and value in self.plan.weights:
                return torch.from_numpy(self.plan.weights[value].real)
            return self._real(value, codes, reals)

        for node_name in unit.nodes:
            node = self.graph.node(node_name)
            results = call_node(self.graph, node, read)
            environment |= {name(v): r for v, r in zip(node.outputs, results, strict=False) if v.name}
        return {value: environment[value] for value in unit.outputs}

    def _call(self, unit: Unit, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        return self._call_all(unit, read)[0]

    def _call_all(self, unit: Unit, read: Callable[[str], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return call_node(self.graph, self.graph.node(unit.name), read)


def call_node(graph: Graph, node: ir.Node, read: Callable[[str], torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Run one ONNX node on tensors that ``read`` gives by value name."""
    op = OPS[node.domain, node.op_type]
    args: list[Any] = []
    for position, value in enumerate(node.inputs):
        constant = graph.constant(value) if position in op.static else None
        if value is None:
            args.append(None)
        else:
            args.append(read(name(value)) if constant is None else constant.tolist())
    result = op.function(*args, **attributes(node), **context(op.function, node, graph.opset))
    return result if isinstance(result, tuple) else (result,)


def quantize(real: torch.Tensor, grid: Quantization) -> torch.Tensor:
    """Codes (float32) of a real tensor: float32 division, round half to even, saturate."""
    scale, zero_point = (torch.as_tensor(part) for part in grid.broadcast(real.ndim))
    codes = torch.round(real.to(torch.float32) / scale).add_(zero_point)
    return codes.clamp_(grid.qmin, grid.qmax)


def dequantize(codes: torch.Tensor, grid: Quantization) -> torch.Tensor:
    """Real values (float32) of codes."""
    scale, zero_point = (torch.as_tensor(part) for part in grid.broadcast(codes.ndim))
    return (codes - zero_point.to(torch.float32)) * scale


def clamp_codes(unit: Unit, output: Quantization) -> tuple[int, int]:
    """The codes that the fused activation allows: the grid's own, narrowed by the unit's clamp."""
    if unit.clamp is None:
        return output.qmin, output.qmax
    low, high = (
        int(output.quantize(np.array([bound], np.float32))[0]) if np.isfinite(bound) else edge
        for bound, edge in zip(unit.clamp, (output.qmin, output.qmax), strict=True)
    )
    return low, high


def _last_readers(graph: Graph, plan: Plan) -> dict[str, list[str]]:
    """Unit name -> values that no later unit reads."""
    last: dict[str, str] = {}
    for unit in plan.units:
        for node_name in unit.nodes:
            for value in graph.node(node_name).inputs:
                if value is not None and value.const_value is None:
                    last[name(value)] = unit.name
    result: dict[str, list[str]] = {}
    for value_name, unit_name in last.items():
        result.setdefault(unit_name, []).append(value_name)
    return result
