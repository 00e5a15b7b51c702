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

from edgeq.devices.artifact import Artifact, read_artifact
from edgeq.errors import ModelError

#: uint8 is at most 255, and two products of it fit an int16 if the weights' magnitudes add up to at most this.
_SAFE_PAIR = 32767 // 255
_SUM_LIMIT = 2**31
#: Codes that are looked at at once, so that a large layer takes no multiple of its own size.
_AT_ONCE = 1 << 22


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
    codes: npt.NDArray[Any]
    """(outputs, reduced), the reduced dimension in the kernel's order."""
    zeros: npt.NDArray[np.int64]
    """The codes' zero points, (outputs, 1) or (1, 1)."""
    depthwise: bool
    bias: npt.NDArray[np.int64]
    activation_zero: int
    activation_type: np.dtype[Any]

    def pieces(self) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
        """Some outputs after the other, and their codes less the zero point."""
        each = max(1, _AT_ONCE // max(1, self.codes.shape[1]))
        for start in range(0, len(self.codes), each):
            rows = slice(start, start + each)
            yield rows, self.codes[rows].astype(np.int64) - (self.zeros[rows] if len(self.zeros) > 1 else self.zeros)


def hazards(artifact: Artifact | bytes | Path) -> tuple[Hazard, ...]:
    """Everything that was found in a quantized ONNX file (QDQ or QLinear ops), in the file's order.

    Raises:
        ModelError: the file is no ONNX model.
    """
    whole = read_artifact(artifact) if isinstance(artifact, Path) else artifact
    whole = Artifact(whole) if isinstance(whole, bytes) else whole
    try:
        model = onnx.load_model_from_string(whole.data)
    except Exception as error:  # protobuf's decode errors have no public base
        raise ModelError(f"cannot read the ONNX file: {error}") from None
    return tuple(hazard for layer in _layers(model.graph, str(whole.folder or "")) for hazard in _of_layer(layer))


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
    sums = (
        (np.abs(piece).sum(axis=1), layer.bias[rows] if layer.bias.size > 1 else layer.bias)
        for rows, piece in layer.pieces()
    )
    total = max((int((weights * reach + np.abs(bias)).max()) for weights, bias in sums), default=0)
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
    found, total = 0, len(layer.codes) * (layer.codes.shape[1] // 2)
    for _, piece in layer.pieces() if total else ():
        pairs = piece[:, : piece.shape[1] // 2 * 2].reshape(len(piece), -1, 2)
        same_sign = np.sign(pairs[..., 0]) * np.sign(pairs[..., 1]) > 0
        found += int((same_sign & (np.abs(pairs).sum(axis=-1) > _SAFE_PAIR)).sum())
    return found / total if total else 0.0


def _layers(graph: Any, folder: str) -> Iterator[_Layer]:
    constants = _Constants({tensor.name: tensor for tensor in graph.initializer}, folder)
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


@dataclass(frozen=True)
class _Constants:
    """The file's constants, each read when it is asked for."""

    tensors: Mapping[str, Any]
    folder: str

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def array(self, name: str) -> npt.NDArray[Any]:
        # ONNX: a missing zero point is 0 of type uint8.
        return numpy_helper.to_array(self.tensors[name], self.folder) if name in self else np.zeros(0, np.uint8)


def _dequantized(name: str, made: Mapping[str, Any]) -> tuple[str, str] | None:
    """The codes and the zero point behind a DequantizeLinear."""
    node = made.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return node.input[0], node.input[2] if len(node.input) > 2 else ""


def _layer(node: Any, operands: list[tuple[str, str] | None], constants: _Constants) -> _Layer | None:
    activation, weight, bias = operands
    if activation is None or weight is None or weight[0] not in constants:
        return None
    zero = constants.array(activation[1])
    codes, weight_zero = constants.array(weight[0]), constants.array(weight[1])
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    rows = _rows(node.op_type, codes, attributes)
    zeros = weight_zero.astype(np.int64).reshape(-1, 1)
    zeros = zeros if len(zeros) == len(rows) else zeros[:1] if zeros.size else np.zeros((1, 1), np.int64)
    known = bias is not None and bias[0] in constants
    biases = constants.array(bias[0]).astype(np.int64).reshape(-1) if known and bias else np.zeros(1, np.int64)
    depthwise = "Conv" in node.op_type and attributes.get("group", 1) > 1 and codes.shape[1] == 1
    number = int(zero.reshape(-1)[0]) if zero.size else 0
    return _Layer(node.name or node.output[0], rows, zeros, depthwise, biases, number, zero.dtype)


def _rows(op: str, weight: npt.NDArray[Any], attributes: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The weight as (outputs, reduced), the reduced dimension in the order in which the kernel walks it."""
    if "Conv" in op:
        return np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    if op == "Gemm" and attributes.get("transB", 0):
        return weight
    return np.moveaxis(weight, -2, -1).reshape(-1, weight.shape[-2])
