"""Anybody's quantized ONNX (QDQ or QOperator, from any tool) against its float model.

1. Its weights are read back as real numbers and matched to the float model's layers (``matching``); those that the tool
   rescaled across layers are divided by their factors (``equalization``).
2. The weights' path runs through the float model. What the whole file does beyond that (activations, requantization) is
   taken at the output: z(t) = z_weights(t) + t (z_file - z_weights(1)), which is exact at t = 1.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgeq.basin.equalization import Rescaling
from edgeq.basin.landscape import Inputs, Landscape, Layer, Point
from edgeq.basin.matching import QUANTIZED_OPS, Found, match, weight_of, weights_of
from edgeq.basin.simulated import SimulatedModel, bias_name
from edgeq.errors import ModelError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import PARITY_BITS, Quantization, QuantizedConstant
from edgeq.plan.rules import Request, decide

#: Batches whose remainder is remembered.
_KEPT = 64
#: Bits that stand for activations in float.
_UNQUANTIZED = 16


@dataclass(frozen=True, eq=False)
class Foreign:
    """A quantized file as a landscape.

    Attributes:
        landscape: its weights' path, and its outputs at t = 1.
        model: the float model behind it, for the repair.
        unmatched: layers of the float model that the file does not quantize, or under no name that could be found.
        rescaled: layers whose weights the tool had rescaled across layers.
        bits: its number format: that of most weights, and the fewest bits of any activation.
    """

    landscape: Landscape
    model: SimulatedModel
    unmatched: tuple[str, ...]
    rescaled: tuple[str, ...]
    bits: Bits


def read_foreign(graph: Graph, quantized: Graph) -> Foreign:
    """Match a quantized file to its float model.

    Args:
        graph: the float model.
        quantized: the file, loaded like any model; its inputs and outputs are those of the float model.

    Raises:
        ModelError: inputs or outputs differ, or no layer could be matched.
        UnsupportedOpError: the file holds an op that edgeq does not execute.
    """
    _check_interface(graph, quantized)
    whole = to_torch(quantized)
    skeleton = decide(graph, Request(Bits(8, None)))
    units = [unit for unit in skeleton.units if unit.weight is not None]
    found = match(graph, units, list(weights_of(quantized)))
    changed = {unit.name: f for unit, f in found if not np.array_equal(f.real, weight_of(graph, unit))}
    if not changed:
        raise ModelError("no quantized weight of the candidate matches a layer of the float model; is it made from it?")
    weights = {
        unit.weight: _constant(graph, unit, changed[unit.name])
        for unit in units
        if unit.name in changed and unit.weight is not None
    }
    plan = Plan(skeleton, {}, weights, {}, method="foreign")
    model = SimulatedModel(graph, plan)
    for unit in model.units:
        source, key = changed[unit.name], bias_name(unit)
        # A rescaled layer's bias is in other units; the float bias stands for it, and outputs are the file's own.
        bias = None if source.rescaling is not None else source.bias
        if bias is not None and key in model.deployed and bias.size == model.deployed[key].numel():
            model.deployed[key] = torch.from_numpy(bias.reshape(-1).copy())
    unmatched = tuple(unit.module or unit.name for unit in units if unit.name not in changed)
    layers = _undo(model, {unit.weight: changed[unit.name].rescaling for unit in model.units})
    activations = _activation_bits(quantized)
    sizes = {name: tensor.numel() for name, tensor in model.deployed.items()}
    # The file may differ in other ways than its weights even where no activation is quantized.
    run, moving = _Run(model, whole, _fixed_batch(quantized)), _UNQUANTIZED if activations is None else activations
    landscape = replace(model.landscape(), layers=layers, run=run, activation_bits=moving)
    rescaled = tuple(u.module or u.name for u in model.units if changed[u.name].rescaling is not None)
    return Foreign(landscape, model, unmatched, rescaled, Bits(_usual_bits(layers, sizes), activations))


def _usual_bits(layers: tuple[Layer, ...], sizes: dict[str, int]) -> int:
    """The bits that most weights have; edgeq offers 8 at most."""
    found: Counter[int] = Counter()
    for layer in layers:
        found[min(layer.bits, 8)] += sizes[layer.weight]
    return found.most_common(1)[0][0]


def _fixed_batch(graph: Graph) -> int | None:
    """The batch size that an exporter wrote into the file, or None where it takes any."""
    shape = graph.inputs[0].shape
    first = shape[0] if shape is not None and len(shape) else None
    return first if isinstance(first, int) else None


def _undo(model: SimulatedModel, rescalings: dict[str | None, Rescaling | None]) -> tuple[Layer, ...]:
    """Bring rescaled weights into the float model's units, and their grids with them."""
    layers = []
    for layer in model.layers:
        found = rescalings.get(layer.weight)
        if found is not None:
            factor = torch.from_numpy(found.factor)
            model.deployed[layer.weight] = model.deployed[layer.weight] / factor
            layer = replace(layer, step=layer.step / factor)
        layers.append(layer)
    return tuple(layers)


class _Run:
    """Runs the float model at a point, and adds the file's own remainder in proportion to the blend."""

    def __init__(self, model: SimulatedModel, whole: torch.nn.Module, fixed: int | None) -> None:
        self.model, self.whole, self.fixed = model, whole, fixed
        self.deployed = dict(model.deployed)
        self.remainders: dict[int, tuple[Inputs, tuple[torch.Tensor, ...]]] = {}

    def __call__(self, point: Point, inputs: Inputs, blend: float) -> tuple[torch.Tensor, ...]:
        outputs = self.model(point, inputs, 0.0)
        if blend == 0:
            return outputs
        return tuple(z + blend * r for z, r in zip(outputs, self._remainder(inputs), strict=True))

    def _remainder(self, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        key = id(inputs[0])
        if key not in self.remainders or self.remainders[key][0] is not inputs:
            with torch.no_grad():
                whole = self._file(inputs)
                weights = self.model(self.deployed, inputs, 0.0)
                whole = tuple(_logits(z, w) for z, w in zip(whole, weights, strict=True))
                found = tuple(z - w for z, w in zip(whole, weights, strict=True))
            while len(self.remainders) >= _KEPT:
                self.remainders.pop(next(iter(self.remainders)))
            self.remainders[key] = (inputs, found)
        return self.remainders[key][1]

    def _file(self, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """The file's outputs; one that takes a fixed number of samples gets them in such parts, the last one filled."""
        count = len(inputs[0]) if inputs[0].ndim else 0
        size = self.fixed
        if size is None or size == count or any(not tensor.ndim or len(tensor) != count for tensor in inputs):
            return _outputs(self.whole(*inputs))
        found = []
        for start in range(0, count, size):
            part = tuple(tensor[start : start + size] for tensor in inputs)
            missing = size - len(part[0])
            filled = tuple(torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) for tensor in part)
            found.append(tuple(z[: len(part[0])] for z in _outputs(self.whole(*filled))))
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _outputs(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _logits(z: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The file's output as logits where the landscape leaves a final Softmax off; half an int8 step stands for zero."""
    sums = z.sum(-1)
    is_probability = bool((z >= 0).all()) and bool((sums - 1).abs().max() < 0.1)
    already = bool((like >= 0).all()) and bool((like.sum(-1) - 1).abs().max() < 0.1)
    return z.clamp_min(1 / 512).log() if is_probability and not already else z


def _check_interface(graph: Graph, quantized: Graph) -> None:
    for what, a, b in (("inputs", graph.inputs, quantized.inputs), ("outputs", graph.outputs, quantized.outputs)):
        if len(a) != len(b):
            raise ModelError(f"the candidate has {len(b)} {what}, the float model {len(a)}; is it its quantization?")
    for value in quantized.inputs:
        if value.dtype is not None and value.dtype.name in ("INT8", "UINT8"):
            raise ModelError(f"input {value.name!r} of the candidate takes codes; export it with float inputs")


def _activation_bits(graph: Graph) -> int | None:
    """The fewest bits of a quantized activation, or None where none is quantized."""
    found = []
    for node in graph.nodes:
        if node.op_type in (*QUANTIZED_OPS, "DynamicQuantizeLinear"):
            found.append(8)
        elif node.op_type == "QuantizeLinear" and graph.constant(node.inputs[0]) is None:
            found.append(_code_bits(graph, node))
    return min(found, default=None)


def _code_bits(graph: Graph, node: ir.Node) -> int:
    """Bits of a QuantizeLinear's codes: of their type, or of the Clip that limits them."""
    dtype = node.outputs[0].dtype
    bits = 8 if dtype is None else round(8 * dtype.itemsize)
    for reader, _ in node.outputs[0].uses():
        edges = [graph.constant(value) for value in reader.inputs[1:3]]
        if reader.op_type == "Clip" and all(edge is not None for edge in edges):
            low, high = (int(edge) for edge in edges if edge is not None)
            bits = min(bits, math.ceil(math.log2(max(high - low + 1, 2))))
    return bits


def _constant(graph: Graph, unit: Unit, found: Found) -> QuantizedConstant:
    """The weight as codes on a symmetric grid that holds its real values; an offset is kept in the codes."""
    axis = output_axis(graph.node(unit.name))
    rows = np.moveaxis(found.real, axis, 0).reshape(found.real.shape[axis], -1)
    scale = found.scale
    if scale is None or scale.size not in (1, len(rows)):
        # No scale is told, or one for each block: the finest grid of 8 bits that the numbers allow.
        scale = np.maximum(np.abs(rows).max(1) / 127, np.float32(1e-12)).astype(np.float32)
    per_channel = scale.size > 1
    shape = [1] * found.real.ndim
    if per_channel:
        shape[axis] = -1
    codes = np.rint(found.real / scale.reshape(shape)).astype(np.int64)
    flat = scale.reshape(-1 if per_channel else ()).astype(np.float32)
    parity = _parity(codes, axis if per_channel else None)
    bits = int(np.clip(np.ceil(np.log2(max(-codes.min(), codes.max() + 1, 1))) + (parity is None), 2, 16))
    zero = np.zeros(flat.shape, np.int64)
    grid = Quantization(flat, zero, bits, axis if per_channel else None, parity=parity)
    return QuantizedConstant(np.clip(codes, grid.qmin, grid.qmax), grid)


def _parity(codes: np.ndarray[tuple[int, ...], np.dtype[np.int64]], axis: int | None) -> npt.NDArray[np.int64] | None:
    """Small codes two apart, some of them odd, need a bit less: whether each channel's are odd; or None."""
    if not (codes % 2).any() or codes.min() < -(2**PARITY_BITS) or codes.max() >= 2**PARITY_BITS:
        return None
    rows = (codes.reshape(1, -1) if axis is None else np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)) % 2
    if rows.shape[1] < 2 or (rows != rows[:, :1]).any():
        return None
    return np.asarray(rows[:, 0].reshape(() if axis is None else -1), np.int64)
