"""Anybody's quantized ONNX (QDQ or QOperator, from any tool) against its float model.

1. Every constant weight of the quantized file is read back as real numbers: whatever chain of QuantizeLinear,
   DequantizeLinear, Clip, Cast, Transpose or Reshape leads to it is evaluated; QLinearConv and QLinearMatMul carry
   theirs.
2. It is matched to the float model's layer: by node name, by weight name, or, where a tool renamed all, as the one of
   that shape that points in the same direction (cosine); a match by name that points elsewhere is refused.
3. The weights' path runs through the float model. What the whole file does beyond that (activations, requantization) is
   taken at the output: z(t) = z_weights(t) + t (z_file - z_weights(1)), which is exact at t = 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgeq.basin.landscape import Inputs, Landscape, Point
from edgeq.basin.simulated import SimulatedModel, bias_name
from edgeq.errors import ModelError
from edgeq.graph.execute import as_tensor, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.ops import OPS
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.plan.rules import Request, decide
from edgeq.simulate.integer import call_node

Array = npt.NDArray[np.float32]

_FLOAT_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Ops with codes inside -> where their bias stands, if they have one; the weight, its scale and zero point are 3, 4, 5.
_QUANTIZED_OPS = {"QLinearConv": 8, "QLinearMatMul": None, "QGemm": 6}
#: Directions closer than this belong to one weight; two bits keep 0.7 and more.
_SAME = 0.5


#: Batches whose remainder is remembered.
_KEPT = 64


@dataclass(frozen=True, eq=False)
class _Found:
    """A weighted node of the quantized file."""

    node: str
    source: str
    real: Array
    scale: npt.NDArray[np.float32] | None
    bias: Array | None


@dataclass(frozen=True, eq=False)
class Foreign:
    """A quantized file as a landscape.

    Attributes:
        landscape: its weights' path, and its outputs at t = 1.
        model: the float model behind it, for the repair.
        unmatched: layers of the float model that the file does not quantize, or under no name that could be found.
    """

    landscape: Landscape
    model: SimulatedModel
    unmatched: tuple[str, ...]


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
    found = _match(graph, units, list(_weights(quantized)))
    changed = {unit.name: f for unit, f in found if not np.array_equal(f.real, _weight(graph, unit))}
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
        bias, key = changed[unit.name].bias, bias_name(unit)
        if bias is not None and key in model.deployed and bias.size == model.deployed[key].numel():
            model.deployed[key] = torch.from_numpy(bias.reshape(-1).copy())
    unmatched = tuple(unit.module or unit.name for unit in units if unit.name not in changed)
    landscape = replace(model.landscape(), run=_Run(model, whole), activations=True)
    return Foreign(landscape, model, unmatched)


class _Run:
    """Runs the float model at a point, and adds the file's own remainder in proportion to the blend."""

    def __init__(self, model: SimulatedModel, whole: torch.nn.Module) -> None:
        self.model, self.whole = model, whole
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
                result = self.whole(*inputs)
                whole = result if isinstance(result, tuple) else (result,)
                weights = self.model(self.deployed, inputs, 0.0)
                whole = tuple(_logits(z, w) for z, w in zip(whole, weights, strict=True))
                found = tuple(z - w for z, w in zip(whole, weights, strict=True))
            while len(self.remainders) >= _KEPT:
                self.remainders.pop(next(iter(self.remainders)))
            self.remainders[key] = (inputs, found)
        return self.remainders[key][1]


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


def _weights(graph: Graph) -> Iterator[_Found]:
    """The constant weights of a quantized graph."""
    for node in graph.nodes:
        if node.domain == "" and node.op_type in _FLOAT_OPS and len(node.inputs) > 1:
            real, scale, source = _evaluate(graph, node.inputs[1])
            if real is not None and real.ndim > 1:
                bias = _evaluate(graph, node.inputs[2])[0] if len(node.inputs) > 2 else None
                yield _Found(name(node), source, real, scale, bias)
        elif node.op_type in _QUANTIZED_OPS:
            found = _quantized_weight(graph, node)
            if found is not None:
                yield found


def _quantized_weight(graph: Graph, node: ir.Node) -> _Found | None:
    codes, scale, zero = (graph.constant(node.inputs[i]) for i in (3, 4, 5))
    if codes is None or scale is None:
        return None
    first = node.op_type == "QLinearConv" or node.attributes.get_int("transB", 0) == 1
    real = _dequantize(codes, scale, zero, 0 if first else codes.ndim - 1)
    position, input_scale = _QUANTIZED_OPS[node.op_type], graph.constant(node.inputs[1])
    bias = None
    if position is not None and len(node.inputs) > position and input_scale is not None:
        integers = graph.constant(node.inputs[position])
        bias = None if integers is None else (integers * np.float32(input_scale) * scale).astype(np.float32)
    source = node.inputs[3]
    return _Found(name(node), "" if source is None else name(source), real, scale, bias)


def _dequantize(
    codes: npt.NDArray[np.generic], scale: npt.NDArray[np.generic], zero: npt.NDArray[np.generic] | None, axis: int
) -> Array:
    shape = [1] * codes.ndim
    if scale.size > 1:
        shape[axis] = -1
    offset = 0 if zero is None else np.asarray(zero, np.int32).reshape(shape)
    real: Array = ((codes.astype(np.int32) - offset) * np.asarray(scale, np.float32).reshape(shape)).astype(np.float32)
    return real


def _evaluate(graph: Graph, value: ir.Value | None) -> tuple[Array | None, npt.NDArray[np.float32] | None, str]:
    """A value that depends on constants alone, the scale of its last DequantizeLinear, and its source's name."""
    if value is None:
        return None, None, ""
    array = graph.constant(value)
    if array is not None:
        return (np.asarray(array, np.float32) if array.dtype.kind == "f" else None), None, name(value)
    try:
        tensor = _run_constant(graph, value)
    except (KeyError, RuntimeError, IndexError, TypeError):
        return None, None, ""
    if tensor is None or not tensor.is_floating_point():
        return None, None, ""
    scale, source = _origin(graph, value)
    return tensor.float().numpy(), scale, source


def _run_constant(graph: Graph, value: ir.Value) -> torch.Tensor | None:
    node = value.producer()
    if node is None or (node.domain, node.op_type) not in OPS:
        return None
    found: dict[str, torch.Tensor] = {}
    for used in node.inputs:
        if used is None:
            continue
        array = graph.constant(used)
        if array is None:
            tensor = _run_constant(graph, used)
            if tensor is None:
                return None
            found[name(used)] = tensor
        else:
            found[name(used)] = as_tensor(array)
    results = call_node(graph, node, lambda v: found[v])
    return results[list(node.outputs).index(value)]


def _origin(graph: Graph, value: ir.Value) -> tuple[npt.NDArray[np.float32] | None, str]:
    scale: npt.NDArray[np.float32] | None = None
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "DequantizeLinear" and scale is None:
            array = graph.constant(node.inputs[1])
            scale = None if array is None else np.asarray(array, np.float32)
        value = node.inputs[0]
    return scale, name(value)


def _match(graph: Graph, units: list[Unit], found: list[_Found]) -> list[tuple[Unit, _Found]]:
    pairs: list[tuple[Unit, _Found]] = []
    left = list(found)
    for unit in units:
        weight = _weight(graph, unit)
        named = [f for f in left if _same_name(unit, f)]
        for candidates in (named, left):
            fitted = [(f, real) for f in candidates if (real := _fit(f.real, weight)) is not None]
            scored = sorted(((_cosine(real, weight), i) for i, (_, real) in enumerate(fitted)), reverse=True)
            if scored and scored[0][0] > _SAME:
                chosen, real = fitted[scored[0][1]]
                pairs.append((unit, replace(chosen, real=real)))
                left.remove(chosen)
                break
    return pairs


def _weight(graph: Graph, unit: Unit) -> Array:
    array = graph.constant(unit.weight)
    assert array is not None
    return np.asarray(array, np.float32)


def _same_name(unit: Unit, found: _Found) -> bool:
    by_weight = unit.weight is not None and found.source.startswith(unit.weight)
    return by_weight or found.node.removesuffix("_quant") == unit.name


def _fit(real: Array, weight: Array) -> Array | None:
    if real.shape == weight.shape:
        return real
    if real.ndim == 2 and real.T.shape == weight.shape:
        return np.ascontiguousarray(real.T)
    return real.reshape(weight.shape) if real.size == weight.size and real.shape[0] == weight.shape[0] else None


def _cosine(a: Array, b: Array) -> float:
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _constant(graph: Graph, unit: Unit, found: _Found) -> QuantizedConstant:
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
    bits = int(np.clip(np.ceil(np.log2(max(-codes.min(), codes.max() + 1, 1))) + 1, 2, 16))
    flat = scale.reshape(-1 if per_channel else ()).astype(np.float32)
    grid = Quantization(flat, np.zeros(flat.shape, np.int64), bits, axis if per_channel else None)
    return QuantizedConstant(np.clip(codes, grid.qmin, grid.qmax), grid)
