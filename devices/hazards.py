"""What would go wrong in a quantized ONNX file on another CPU than this one, found from the file alone.

- **Saturation.** On x86 without VNNI the fast kernel for uint8 x int8 (and int8 x int8, which is brought to it) adds
  two neighbouring products in int16 (``vpmaddubsw``), which saturates at 32,767: 255 x 127 + 255 x 127 does not fit.
  Neighbours are weights k and k + 1, k even, along the reduced dimension: for a convolution in channels-last order
  (kernel row, kernel column, channel). A pair with the same sign and |w1| + |w2| > 128 can saturate.
- **Overflow.** An int32 sum wraps when sum |w| * max |x - zero point| + |bias| reaches 2^31.

Depthwise convolutions multiply in int32 and cannot saturate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgeq.errors import ModelError

#: uint8 is at most 255, and two products of it fit an int16 if the weights' magnitudes add up to at most this.
_SAFE_PAIR = 32767 // 255
_SUM_LIMIT = 2**31


@dataclass(frozen=True)
class Hazard:
    """A layer that computes something else on another CPU.

    Attributes:
        kind: saturation or overflow.
        node: the layer.
        share: saturation: the part of its weight pairs that can saturate; overflow: 1.
        message: one sentence with what to do.
    """

    kind: str
    node: str
    share: float
    message: str


@dataclass(frozen=True)
class _Layer:
    name: str
    weight: npt.NDArray[np.int64]
    """Codes less the zero point, (outputs, reduced), the reduced dimension in the kernel's order."""
    depthwise: bool
    bias: npt.NDArray[np.int64]
    activation_zero: int
    activation_type: np.dtype[Any]


def hazards(artifact: bytes | Path) -> tuple[Hazard, ...]:
    """Everything that was found in a quantized ONNX file (QDQ or QLinear ops), in the file's order.

    Raises:
        ModelError: the file is no ONNX model.
    """
    try:
        model = onnx.load_model_from_string(artifact) if isinstance(artifact, bytes) else onnx.load(artifact)
    except Exception as error:  # protobuf's decode errors have no public base
        raise ModelError(f"cannot read the ONNX file: {error}") from None
    return tuple(hazard for layer in _layers(model.graph) for hazard in _of_layer(layer))


def summary(found: tuple[Hazard, ...]) -> tuple[str, ...]:
    """One sentence a kind: how many layers, and the worst of them."""
    lines = []
    for kind in sorted({hazard.kind for hazard in found}):
        same = sorted((hazard for hazard in found if hazard.kind == kind), key=lambda hazard: -hazard.share)
        others = f" ({len(same) - 1} more layers have the same problem)" if len(same) > 1 else ""
        lines.append(f"{kind}: {same[0].message}{others}")
    return tuple(lines)


def _of_layer(layer: _Layer) -> Iterator[Hazard]:
    largest = np.iinfo(layer.activation_type)
    reach = max(abs(largest.min - layer.activation_zero), abs(largest.max - layer.activation_zero))
    total = int((np.abs(layer.weight).sum(axis=1) * reach + np.abs(layer.bias)).max())
    if total >= _SUM_LIMIT:
        yield Hazard(
            "overflow",
            layer.name,
            1.0,
            f"{layer.name}: its int32 sums can reach {total:,}, over {_SUM_LIMIT - 1:,}; use a larger weight scale for "
            "its channels, or leave it in float",
        )
    share = _saturating_pairs(layer)
    if share:
        yield Hazard(
            "saturation",
            layer.name,
            share,
            f"{layer.name}: {share:.1%} of its weight pairs can saturate on x86 CPUs without VNNI; use 7-bit weights, "
            'or session.x64quantprecision = "1" in the profile for such CPUs',
        )


def _saturating_pairs(layer: _Layer) -> float:
    if layer.depthwise or layer.activation_type.itemsize != 1:
        return 0.0
    weight = layer.weight[:, : layer.weight.shape[1] // 2 * 2]
    pairs = weight.reshape(len(weight), -1, 2)
    if not pairs.size:
        return 0.0
    same_sign = np.sign(pairs[..., 0]) * np.sign(pairs[..., 1]) > 0
    return float((same_sign & (np.abs(pairs).sum(axis=-1) > _SAFE_PAIR)).mean())


def _layers(graph: Any) -> Iterator[_Layer]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            operands = [_dequantized(name, made) for name in (*node.input, "", "")[:3]]
        elif node.op_type in ("QLinearConv", "QLinearMatMul"):
            names = [*node.input, ""]
            operands = [(names[0], names[2]), (names[3], names[5]), (names[8], "")]
        else:
            continue
        layer = _layer(node, operands, constants)
        if layer is not None:
            yield layer


def _dequantized(name: str, made: Mapping[str, Any]) -> tuple[str, str] | None:
    """The codes and the zero point behind a DequantizeLinear."""
    node = made.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return node.input[0], node.input[2] if len(node.input) > 2 else ""


def _layer(node: Any, operands: list[tuple[str, str] | None], constants: Mapping[str, Any]) -> _Layer | None:
    activation, weight, bias = operands
    if activation is None or weight is None or weight[0] not in constants:
        return None
    zero = _constant(activation[1], constants)
    codes, weight_zero = _constant(weight[0], constants), _constant(weight[1], constants)
    offset = codes.astype(np.int64)
    if weight_zero.size > 1:
        axis = 0 if weight_zero.size == codes.shape[0] else codes.ndim - 1
        offset = offset - np.expand_dims(weight_zero.astype(np.int64), [i for i in range(codes.ndim) if i != axis])
    elif weight_zero.size:
        offset = offset - int(weight_zero.reshape(-1)[0])
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    rows = _rows(node.op_type, offset, attributes)
    known = bias is not None and bias[0] in constants
    biases = _constant(bias[0], constants).astype(np.int64).reshape(-1) if known and bias else np.zeros(1, np.int64)
    depthwise = "Conv" in node.op_type and attributes.get("group", 1) > 1 and codes.shape[1] == 1
    number = int(zero.reshape(-1)[0]) if zero.size else 0
    return _Layer(node.name or node.output[0], rows, depthwise, biases, number, zero.dtype)


def _constant(name: str, constants: Mapping[str, Any]) -> npt.NDArray[Any]:
    # ONNX: a missing zero point is 0 of type uint8.
    return numpy_helper.to_array(constants[name]) if name in constants else np.zeros(0, np.uint8)


def _rows(op: str, weight: npt.NDArray[np.int64], attributes: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """The weight as (outputs, reduced), the reduced dimension in the order in which the kernel walks it."""
    if "Conv" in op:
        return np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    if op == "Gemm" and attributes.get("transB", 0):
        return weight
    return np.moveaxis(weight, -2, -1).reshape(-1, weight.shape[-2])
