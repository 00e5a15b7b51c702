"""Rewrite a graph in place so that it computes on the plan's codes: pairs, weights, biases, clamps and pads.

Every grid of the plan becomes one pair. A value that an integer unit makes keeps its name after the pair, so readers
and outputs need no change; a value that a float unit or the caller makes is quantized for its integer readers alone. A
fused ReLU or clip that the grid's own saturation performs is dropped, for the runtime would otherwise not fuse the
convolution.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeq.errors import PlanError
from edgeq.exporters.onnx.opset import raise_opset
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.ops import IN_BLOCKS
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant

Signedness = Literal["uint8", "int8"]
#: From here on codes of 4 and 16 bits and scales of blocks exist.
_WIDER_OPSET = 21
#: Weight-only codes of so many bits and fewer lie two a byte.
_PACKED = 4


class Rewriter:
    """Rewrites a clone of the graph in place."""

    def __init__(self, graph: Graph, plan: Plan, activations: Signedness) -> None:
        self.graph, self.plan, self.unsigned = graph, plan, activations == "uint8"
        self.makers = {value: unit for unit in plan.units for value in unit.outputs}
        self.packed = packed_weights(plan)
        self.turned = turned_weights(graph, plan)
        if self.packed or any(grid.bits == 16 for grid in plan.activations.values()):
            raise_opset(graph.model, _WIDER_OPSET)

    def write(self) -> None:
        """Rewrite all units and values."""
        readers: dict[str, list[Unit]] = {}
        for unit in self.plan.units:
            for read in unit.inputs if unit.integer else ():
                readers.setdefault(read, []).append(unit)
        nodes = {unit.name: [self.graph.node(n) for n in unit.nodes] for unit in self.plan.units}
        for unit in self.plan.units:
            if unit.weight is not None and unit.weight in self.plan.weights:
                nodes[unit.name] = self._write_weight(unit, nodes[unit.name])
            for operand in unit.inputs if unit.integer else ():
                if operand in self.plan.constants:
                    self._write_constant(operand, nodes[unit.name][0])
        # A new look at the graph: a MatMul that became a Gemm makes its value anew.
        current = Graph(self.graph.model)
        values = {value: current.value(value) for value in self.plan.activations}
        for value_name, value in values.items():
            maker = self.makers.get(value_name)
            if (
                maker is not None
                and maker.integer
                and maker.op == "Pad"
                and self.plan.activations[value_name].bits <= 8
            ):
                self._pad_codes(value, nodes[maker.name][0])
            elif maker is not None and maker.integer:
                self._pair_after(maker, value, nodes[maker.name])
            else:
                self._pair_before(value, [nodes[unit.name][0] for unit in readers.get(value_name, [])])

    def _write_weight(self, unit: Unit, nodes: list[ir.Node]) -> list[ir.Node]:
        """Weight and bias as codes; the nodes that the unit has then."""
        assert unit.weight is not None
        anchor = nodes[0]
        constant = self.plan.weights[unit.weight]
        if unit.weight in self.turned:
            constant = transposed(constant)
        weight = self._dequantized(unit.weight, constant, signed=True)
        anchor.replace_input_with(1, weight)
        if not unit.integer:
            return self._write_product(unit, nodes) if unit.op in IN_BLOCKS else nodes
        bias = self._dequantized(f"{unit.name}_bias", self.plan.biases[unit.name], signed=True)
        if unit.op == "MatMul":
            return self._write_matmul_bias(unit, nodes, bias)
        anchor.resize_inputs(3)
        anchor.replace_input_with(2, bias)
        return nodes

    def _write_product(self, unit: Unit, nodes: list[ir.Node]) -> list[ir.Node]:
        """A weight-only matrix product so that ONNX Runtime multiplies with its codes (MatMulNBits).

        It does for MatMul, and for Gemm without transB, but (1.31) not where a ReLU or Clip stands right behind: there
        the bias is subtracted negated, which nothing takes in.
        """
        anchor = nodes[0]
        if unit.clamp is None:
            if unit.weight in self.turned:
                anchor.attributes["transB"] = ir.AttrInt64("transB", 0)
            return nodes
        bias = self.graph.constant(unit.bias) if unit.bias is not None else None
        assert unit.weight is not None
        zeros = np.zeros(self.plan.weights[unit.weight].codes.shape[output_axis(anchor)], np.float32)
        minus = self._initializer(f"{unit.name}_minus_bias", zeros - (0 if bias is None else bias.reshape(-1)))
        before = nodes[: 2 if unit.op == "MatMul" and unit.bias is not None else 1]
        product = ir.node("MatMul", [anchor.inputs[0], anchor.inputs[1]], name=anchor.name)
        product.outputs[0].name = f"{unit.name}_product"
        less = ir.node("Sub", [product.outputs[0], minus], name=f"{unit.name}_bias")
        ir.convenience.replace_nodes_and_values(
            self.graph.model.graph, before[-1], before, [product, less], before[-1].outputs, less.outputs
        )
        return [product, less, *nodes[len(before) :]]

    def _write_matmul_bias(self, unit: Unit, nodes: list[ir.Node], bias: ir.Value) -> list[ir.Node]:
        anchor = nodes[0]
        source = anchor.inputs[0]
        biased = unit.bias is not None or bool(np.any(self.plan.biases[unit.name].codes))
        gemm = self._gemm(unit, anchor, bias, biased)
        if gemm:
            tail = nodes[1] if unit.bias is not None else anchor
            removed = [anchor] if tail is anchor else [anchor, tail]
            ir.convenience.replace_nodes_and_values(
                self.graph.model.graph, tail, removed, gemm, tail.outputs, gemm[-1].outputs
            )
            return [*gemm, *nodes[len(removed) :]]
        if unit.bias is not None:
            adder = nodes[1]
            adder.replace_input_with(0 if adder.inputs[1] is anchor.outputs[0] else 1, bias)
        elif biased:
            # A method gave it a bias that the model does not have.
            product = ir.node("MatMul", [source, anchor.inputs[1]], name=anchor.name)
            product.outputs[0].name = f"{unit.name}_product"
            added = ir.node("Add", [product.outputs[0], bias], name=f"{unit.name}_add_bias")
            ir.convenience.replace_nodes_and_values(
                self.graph.model.graph, anchor, [anchor], [product, added], anchor.outputs, added.outputs
            )
            return [product, added, *nodes[1:]]
        return nodes

    def _gemm(self, unit: Unit, anchor: ir.Node, bias: ir.Value, biased: bool) -> list[ir.Node]:
        """A Gemm, which takes the bias into the accumulator as the plan and LiteRT do; empty where it cannot be.

        Of sequences it multiplies all rows at once, between two reshapes, which ONNX Runtime does on codes.
        """
        source = anchor.inputs[0]
        shape = None if source is None or source.shape is None else [*source.shape]
        if shape is None or len(shape) < 2:
            return []
        if len(shape) == 2:
            return [ir.node("Gemm", [source, anchor.inputs[1], bias], name=anchor.name)]
        rows = [size if isinstance(size, int) else -1 for size in shape[:-1]]
        columns = self.plan.weights[unit.weight or ""].codes.shape
        if not biased or rows.count(-1) > 1:
            return []
        before, after = (
            self._initializer(f"{unit.name}_{which}", np.array(target, np.int64))
            for which, target in (("rows", [-1, columns[0]]), ("sequences", [*rows, columns[1]]))
        )
        flat = ir.node("Reshape", [source, before], name=f"{unit.name}_to_rows")
        gemm = ir.node("Gemm", [flat.outputs[0], anchor.inputs[1], bias], name=anchor.name)
        flat.outputs[0].name, gemm.outputs[0].name = f"{unit.name}_flat", f"{unit.name}_flat_product"
        return [flat, gemm, ir.node("Reshape", [gemm.outputs[0], after], name=f"{unit.name}_to_sequences")]

    def _write_constant(self, value: str, anchor: ir.Node) -> None:
        new = self._dequantized(value, self.plan.constants[value], signed=False)
        for index, used in enumerate(anchor.inputs):
            if used is not None and used.name == value:
                anchor.replace_input_with(index, new)

    def _pair_after(self, unit: Unit, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """maker -> Q -> DQ -> every reader; the DequantizeLinear takes over the value's name."""
        grid, value_name = self.plan.activations[name(value)], name(value)
        source = self._without_clamp(unit, value, nodes, grid)
        value.name = f"{value_name}_real"
        if source is not value:
            self._redirect(value, source)
        _, dequantize = self._pair(source, value_name, grid)
        self._take_over(source, dequantize, value_name, value)

    def _pad_codes(self, value: ir.Value, pad: ir.Node) -> None:
        """Pad on codes with the zero point: ONNX Runtime fuses no Pad between pairs (and has none on 16-bit codes)."""
        value_name, grid = name(value), self.plan.activations[name(value)]
        before = pad.inputs[0].producer() if pad.inputs[0] is not None else None
        if before is None or before.op_type != "DequantizeLinear":
            raise PlanError(f"unit {pad.name!r}: its input has no codes")
        pad.replace_input_with(0, before.inputs[0])
        pad.resize_inputs(max(3, len(pad.inputs)))
        scale, zero_point = self._grid(value_name, grid)
        pad.replace_input_with(2, zero_point)
        value.name = f"{value_name}_codes"
        dequantize = ir.node("DequantizeLinear", [value, scale, zero_point], name=f"{value_name}_DequantizeLinear")
        self.graph.model.graph.append(dequantize)
        self._take_over(value, dequantize, value_name, value)
        value.type = ir.TensorType(zero_point.dtype or ir.DataType.UINT8)

    def _take_over(self, source: ir.Value, dequantize: ir.Node, value_name: str, like: ir.Value) -> None:
        """What read a value, and the graph's outputs, read the DequantizeLinear's output under the value's name."""
        final = dequantize.outputs[0]
        final.name, final.type, final.shape = value_name, like.type, like.shape
        self._redirect(source, final, keep=dequantize)

    def _redirect(self, old: ir.Value, new: ir.Value, keep: ir.Node | None = None) -> None:
        for use in tuple(old.uses()):
            if use.node is not keep and use.node.op_type != "QuantizeLinear":
                use.node.replace_input_with(use.idx, new)
        outputs = self.graph.model.graph.outputs
        for index, output in enumerate(outputs):
            if output is old:
                outputs[index] = new

    def _without_clamp(self, unit: Unit, value: ir.Value, nodes: Sequence[ir.Node], grid: Quantization) -> ir.Value:
        """The value before a fused activation that saturation performs anyway, else the value itself."""
        if unit.clamp is None or len(nodes) < 2:
            return value
        low, high = unit.clamp
        edges = grid.dequantize(np.array([grid.qmin, grid.qmax]))
        step = float(grid.scale)
        before = nodes[-1].inputs[0]
        assert before is not None
        if edges[0] >= low - step / 2 and edges[1] <= high + step / 2:
            return before
        # The grid reaches beyond the clamp: quantize first, then clamp on the grid; so the convolution still fuses.
        _, dequantize = self._pair(before, f"{name(value)}_unclamped", grid)
        nodes[-1].replace_input_with(0, dequantize.outputs[0])
        return value

    def _pair_before(self, value: ir.Value, readers: Sequence[ir.Node]) -> None:
        """value -> Q -> DQ -> the integer readers only."""
        _, dequantize = self._pair(value, name(value), self.plan.activations[name(value)])
        dequantize.outputs[0].name = f"{value.name}_dequantized"
        dequantize.outputs[0].type, dequantize.outputs[0].shape = value.type, value.shape
        for node in dict.fromkeys(readers):
            for index, used in enumerate(node.inputs):
                if used is value:
                    node.replace_input_with(index, dequantize.outputs[0])

    def _pair(self, source: ir.Value, prefix: str, grid: Quantization) -> tuple[ir.Node, ir.Node]:
        scale, zero_point = self._grid(prefix, grid)
        quantize = ir.node("QuantizeLinear", [source, scale, zero_point], name=f"{prefix}_QuantizeLinear")
        quantize.outputs[0].name = f"{prefix}_codes"
        codes = quantize.outputs[0]
        after = quantize
        nodes = [quantize]
        if grid.bits < 8:
            # QuantizeLinear saturates at 8 bits: a coarser grid needs its own limits.
            edges = [
                self._initializer(f"{prefix}_{edge}", self._codes(np.array(code), grid, signed=False))
                for edge, code in (("lowest", grid.qmin), ("highest", grid.qmax))
            ]
            after = ir.node("Clip", [codes, *edges], name=f"{prefix}_saturate")
            after.outputs[0].name = f"{prefix}_saturated"
            nodes.append(after)
        dequantize = ir.node(
            "DequantizeLinear", [after.outputs[0], scale, zero_point], name=f"{prefix}_DequantizeLinear"
        )
        self.graph.model.graph.extend([*nodes, dequantize])
        return quantize, dequantize

    def _grid(self, prefix: str, grid: Quantization) -> tuple[ir.Value, ir.Value]:
        zero_point = self._codes(np.asarray(grid.zero_point), grid, signed=False)
        return (
            self._initializer(f"{prefix}_scale", np.asarray(grid.scale)),
            self._initializer(f"{prefix}_zero_point", zero_point),
        )

    def _dequantized(self, prefix: str, constant: QuantizedConstant, *, signed: bool) -> ir.Value:
        grid = constant.quantization
        numbers = [
            np.asarray(part).astype(ir.DataType.INT4.numpy())
            if prefix in self.packed
            else self._codes(part, grid, signed=signed)
            for part in (constant.codes, np.asarray(grid.zero_point))
        ]
        codes = self._initializer(f"{prefix}_codes", numbers[0])
        scale = self._initializer(f"{prefix}_scale", np.asarray(grid.scale))
        zeros = self._initializer(f"{prefix}_zero_point", numbers[1])
        axis = {} if grid.axis is None else {"axis": grid.axis}
        axis |= {"block_size": grid.block} if grid.block else {}
        existing = next((use.node for use in codes.uses() if use.node.op_type == "DequantizeLinear"), None)
        if existing is not None:
            return existing.outputs[0]
        node = ir.node("DequantizeLinear", [codes, scale, zeros], axis, name=f"{prefix}_DequantizeLinear")
        node.outputs[0].name = f"{prefix}_dequantized"
        self.graph.model.graph.append(node)
        return node.outputs[0]

    def _codes(self, codes: npt.NDArray[Any], grid: Quantization, *, signed: bool) -> npt.NDArray[Any]:
        if grid.bits == 32:
            return codes.astype(np.int32)
        if grid.bits == 16:
            wide = codes.astype(np.int32)
            return (wide + 2**15).astype(np.uint16) if self.unsigned and not signed else codes.astype(np.int16)
        if self.unsigned and not signed:
            return (codes.astype(np.int16) + 128).astype(np.uint8)
        return codes.astype(np.int8, copy=False)

    def _initializer(self, value_name: str, array: npt.NDArray[Any]) -> ir.Value:
        initializers = self.graph.model.graph.initializers
        if value_name in initializers:
            return initializers[value_name]
        tensor = ir.tensor(array, name=value_name)
        value = ir.Value(
            name=value_name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        self.graph.model.graph.register_initializer(value)
        return value


def packed_weights(plan: Plan) -> frozenset[str]:
    """Weights of layers in float whose codes lie two a byte.

    An integer layer reads bytes: with packed codes ONNX Runtime would compute it in float.
    """
    integer = {unit.weight for unit in plan.units if unit.integer}
    small = (value for value, constant in plan.weights.items() if constant.quantization.bits <= _PACKED)
    return frozenset(value for value in small if value not in integer)


def turned_weights(graph: Graph, plan: Plan) -> frozenset[str]:
    """Weights of Gemm that are written as MatMul reads them."""
    plain = {
        unit.weight
        for unit in plan.units
        if unit.integer or unit.op != "Gemm" or not graph.node(unit.name).attributes.get_int("transB", 0)
    }
    return frozenset(value for value in plan.weights if value not in plain)


def transposed(constant: QuantizedConstant) -> QuantizedConstant:
    """A matrix on its grid, turned."""
    grid = constant.quantization
    axis = None if grid.axis is None else 1 - grid.axis
    turned = grid.with_scales(np.transpose, axis)
    return QuantizedConstant(np.ascontiguousarray(constant.codes.T), turned)


__all__ = ["Rewriter", "Signedness", "packed_weights", "transposed", "turned_weights"]
