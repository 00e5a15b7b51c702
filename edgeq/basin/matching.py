"""The weights of a quantized file, read back as real numbers and matched to the float model's layers.

Every constant weight is read back: whatever chain of QuantizeLinear, DequantizeLinear, Clip, Cast, Transpose or Reshape
leads to it is evaluated; QLinearConv and QLinearMatMul carry theirs, and the scale of ConvInteger and MatMulInteger is
found where their sums are multiplied. It is matched by node name, by weight name, or,
where a tool renamed all, as the one of that shape that points in the same direction (cosine), rescaled across layers or
not; a match by name that points elsewhere is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgeq.basin.equalization import Rescaling, rescaling
from edgeq.graph.execute import as_tensor
from edgeq.graph.graph import Graph, name
from edgeq.graph.ops import OPS
from edgeq.plan.plan import Unit
from edgeq.simulate.integer import call_node

Array = npt.NDArray[np.float32]

_FLOAT_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Ops with codes inside -> where their bias stands, if they have one; the weight, its scale and zero point are 3, 4, 5.
QUANTIZED_OPS = {"QLinearConv": 8, "QLinearMatMul": None, "QGemm": 6}
#: Ops of dynamic quantization: input and weight codes in, 32-bit sums out.
_INTEGER_OPS = ("ConvInteger", "MatMulInteger")
#: Directions closer than this belong to one weight; two bits keep 0.7 and more.
_SAME = 0.5


@dataclass(frozen=True, eq=False)
class Found:
    """A weighted node of the quantized file."""

    node: str
    source: str
    real: Array
    scale: npt.NDArray[np.float32] | None
    bias: Array | None
    rescaling: Rescaling | None = None


def weights_of(graph: Graph) -> Iterator[Found]:
    """The constant weights of a quantized graph."""
    for node in graph.nodes:
        if node.domain == "" and node.op_type in _FLOAT_OPS and len(node.inputs) > 1:
            real, scale, source = _evaluate(graph, node.inputs[1])
            if real is not None and real.ndim > 1:
                bias = _evaluate(graph, node.inputs[2])[0] if len(node.inputs) > 2 else None
                yield Found(name(node), source, real, scale, bias)
        elif node.op_type in QUANTIZED_OPS:
            found = _quantized_weight(graph, node)
            if found is not None:
                yield found
        elif node.domain == "" and node.op_type in _INTEGER_OPS:
            found = _integer_weight(graph, node)
            if found is not None:
                yield found


def _quantized_weight(graph: Graph, node: ir.Node) -> Found | None:
    codes, scale, zero = (graph.constant(node.inputs[i]) for i in (3, 4, 5))
    if codes is None or scale is None:
        return None
    first = node.op_type == "QLinearConv" or node.attributes.get_int("transB", 0) == 1
    real = _dequantize(codes, scale, zero, 0 if first else codes.ndim - 1)
    position, input_scale = QUANTIZED_OPS[node.op_type], graph.constant(node.inputs[1])
    bias = None
    if position is not None and len(node.inputs) > position and input_scale is not None:
        integers = graph.constant(node.inputs[position])
        bias = None if integers is None else (integers * np.float32(input_scale) * scale).astype(np.float32)
    source = node.inputs[3]
    return Found(name(node), "" if source is None else name(source), real, scale, bias)


def _integer_weight(graph: Graph, node: ir.Node) -> Found | None:
    """Of dynamic quantization: the 32-bit sums are multiplied by the input's scale x the weight's, told afterwards."""
    codes, zero = (graph.constant(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 3))
    scale = _scale_after(graph, node.outputs[0])
    if codes is None or scale is None:
        return None
    real = _dequantize(codes, scale.reshape(-1), zero, 0 if node.op_type == "ConvInteger" else codes.ndim - 1)
    source = node.inputs[1]
    return Found(name(node), "" if source is None else name(source), real, scale.reshape(-1), None)


def _scale_after(graph: Graph, value: ir.Value) -> npt.NDArray[np.float32] | None:
    """The constant that a value is multiplied by, alone or times the input's scale; through casts and reshapes."""
    for reader, position in value.uses():
        if reader.op_type in ("Cast", "Reshape") and position == 0:
            return _scale_after(graph, reader.outputs[0])
        if reader.op_type == "Mul":
            other = reader.inputs[1 - position]
            inner = None if other is None else other.producer()
            factors = (other, *(inner.inputs if inner is not None and inner.op_type == "Mul" else ()))
            known = [array for factor in factors if (array := graph.constant(factor)) is not None]
            return np.asarray(known[0], np.float32) if len(known) == 1 else None
    return None


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


def match(graph: Graph, units: list[Unit], found: list[Found]) -> list[tuple[Unit, Found]]:
    """Units with their weights in the file, in the float model's shape; units that have none are left out."""
    pairs: list[tuple[Unit, Found]] = []
    left = list(found)
    for unit in units:
        weight = weight_of(graph, unit)
        named = [f for f in left if _same_name(unit, f)]
        for candidates in (named, left):
            fitted = [(f, _compared(f, real, weight)) for f in candidates if (real := _fit(f.real, weight)) is not None]
            scored = sorted(((likeness, i) for i, (_, (likeness, _)) in enumerate(fitted)), reverse=True)
            if scored and scored[0][0] > _SAME:
                original, (_, chosen) = fitted[scored[0][1]]
                pairs.append((unit, chosen))
                left.remove(original)
                break
    return pairs


def _compared(found: Found, real: Array, weight: Array) -> tuple[float, Found]:
    """How alike a weight is to the float model's, directly or rescaled, and the weight so understood."""
    rescaled = rescaling(real, weight, found.scale)
    cosine = _cosine(real, weight) if rescaled is None else rescaled.cosine
    return cosine, replace(found, real=real, rescaling=rescaled)


def weight_of(graph: Graph, unit: Unit) -> Array:
    """The float model's weight."""
    array = graph.constant(unit.weight)
    assert array is not None
    return np.asarray(array, np.float32)


def _same_name(unit: Unit, found: Found) -> bool:
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
