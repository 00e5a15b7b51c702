"""TFLite and ONNX files of one op each with random integers, and what an op's integers are made of."""

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgeq.plan.quantization import Quantization, per_tensor

Array = npt.NDArray[Any]
_CODES = schema.BuiltinOperator
_OPTIONS = schema.BuiltinOptions
_INT8, _INT32 = schema.TensorType.INT8, schema.TensorType.INT32


@dataclass(frozen=True, eq=False)
class Weighted:
    """A convolution or matrix product: its file, its input and its int32 sums (channels last)."""

    artifact: bytes
    x: Array
    sums: Array
    input_scale: np.float32
    weight_scales: npt.NDArray[np.float32]
    output: Quantization


@dataclass(frozen=True, eq=False)
class Elementwise:
    """An op on one or two tensors of codes: its file, its inputs by name, and all grids."""

    artifact: bytes
    inputs: dict[str, Array]
    grids: tuple[Quantization, ...]
    output: Quantization


class _File:
    """One op; tensors are added in the order of its inputs, the output last."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.buffers, self.graph.tensors = 3, [schema.BufferT()], []
        self.fed: list[int] = []

    def add(
        self, name: str, data: Array | tuple[int, ...], kind: int, scales: Any = None, zero: int = 0, axis: int = 0
    ) -> None:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.hasRank = name, kind, True
        tensor.shape = list(data.shape if isinstance(data, np.ndarray) else data)
        if isinstance(data, np.ndarray):
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        elif name != "y":
            self.fed.append(len(self.graph.tensors))
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [float(scale) for scale in np.atleast_1d(scales)]
            tensor.quantization.zeroPoint = [zero] * np.size(scales)
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)

    def build(self, code: int, version: int, options_type: int, options: Any) -> bytes:
        operator_code, operator = schema.OperatorCodeT(), schema.OperatorT()
        operator_code.builtinCode, operator_code.version = code, version
        operator_code.deprecatedBuiltinCode = min(code, 127)
        count = len(self.graph.tensors)
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, list(range(count - 1)), [count - 1]
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        self.graph.inputs, self.graph.outputs, self.graph.operators = self.fed, [count - 1], [operator]
        self.model.operatorCodes, self.model.subgraphs = [operator_code], [self.graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _set(options: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(options, name, value)
    return options


_CONVOLUTION = {
    "padding": schema.Padding.VALID, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1,
}  # fmt: skip
_KINDS: dict[str, tuple[int, int, int, Any]] = {
    "Conv": (_CODES.CONV_2D, 3, _OPTIONS.Conv2DOptions, lambda: _set(schema.Conv2DOptionsT(), **_CONVOLUTION)),
    "DepthwiseConv": (
        *(_CODES.DEPTHWISE_CONV_2D, 3, _OPTIONS.DepthwiseConv2DOptions),
        lambda: _set(schema.DepthwiseConv2DOptionsT(), depthMultiplier=1, **_CONVOLUTION),
    ),
    "Gemm": (_CODES.FULLY_CONNECTED, 4, _OPTIONS.FullyConnectedOptions, schema.FullyConnectedOptionsT),
    "Add": (_CODES.ADD, 2, _OPTIONS.AddOptions, lambda: _set(schema.AddOptionsT(), potScaleInt16=False)),
    "Sub": (_CODES.SUB, 2, _OPTIONS.SubOptions, lambda: _set(schema.SubOptionsT(), potScaleInt16=False)),
    "Mul": (_CODES.MUL, 2, _OPTIONS.MulOptions, schema.MulOptionsT),
    "GlobalAveragePool": (
        *(_CODES.MEAN, 2, _OPTIONS.ReducerOptions),
        lambda: _set(schema.ReducerOptionsT(), keepDims=True),
    ),
}


def _finish(file: _File, op: str) -> bytes:
    code, version, options_type, options = _KINDS[op]
    return file.build(code, version, options_type, options())


def weighted(op: str, seed: int, size: int = 16, channels: int = 16) -> Weighted:
    """A Conv, DepthwiseConv (both 3 x 3) or Gemm with per-channel weights, whose sums fill the output's range."""
    rng = np.random.default_rng(seed)
    scale, zero = np.float32(rng.uniform(0.01, 0.05)), int(rng.integers(-20, 20))
    shape = {
        "Conv": (2 * channels, 3, 3, channels),
        "DepthwiseConv": (1, 3, 3, channels),
        "Gemm": (2 * channels, 8 * channels),
    }[op]
    axis = 3 if op == "DepthwiseConv" else 0
    weight = rng.integers(-127, 128, shape).astype(np.int8)
    scales = rng.uniform(0.002, 0.02, shape[axis]).astype(np.float32)
    bias = rng.integers(-5000, 5000, shape[axis]).astype(np.int32)
    x_shape = (size * size, shape[1]) if op == "Gemm" else (1, size, size, channels)
    x = rng.integers(-128, 128, x_shape).astype(np.int8)
    sums = _sums(op, x.astype(np.float64) - zero, weight, bias)
    output = per_tensor(np.float32(np.abs(sums * scales * scale).max() / 130), -7)
    file = _File()
    file.add("x", x_shape, _INT8, scale, zero)
    file.add("w", weight, _INT8, scales, axis=axis)
    file.add("b", bias, _INT32, (scales * scale).astype(np.float32))
    file.add("y", sums.shape, _INT8, output.scale, -7)
    return Weighted(_finish(file, op), x, sums, scale, scales, output)


def _sums(op: str, x: Array, weight: Array, bias: Array) -> Array:
    if op == "Gemm":
        return x @ weight.T.astype(np.float64) + bias
    order = (0, 3, 1, 2) if op == "Conv" else (3, 0, 1, 2)
    operands = [
        torch.from_numpy(a.astype(np.float64)) for a in (x.transpose(0, 3, 1, 2), weight.transpose(order), bias)
    ]
    groups = 1 if op == "Conv" else x.shape[-1]
    return torch.nn.functional.conv2d(*operands, groups=groups).numpy().transpose(0, 2, 3, 1)


def elementwise(op: str, seed: int, size: int = 32) -> Elementwise:
    """An Add, Sub or Mul of two tensors on grids of their own; every third seed has scales that make many ties."""
    rng = np.random.default_rng(seed)
    shape = (1, size, size, 32)
    ties = seed % 3 == 2
    scales = rng.choice([0.03125, 0.0625], 2) if ties else rng.uniform(0.01, 0.1, 2)
    grids = tuple(per_tensor(np.float32(scale), int(rng.integers(-60, 60))) for scale in scales)
    product = grids[0].scale * grids[1].scale * (128 if ties else 100)
    scale = product if op == "Mul" else np.float32(0.125 if ties else 0.11)
    output = per_tensor(np.float32(scale), int(rng.integers(-60, 60)))
    file = _File()
    inputs = {}
    for name, grid in zip("ab", grids, strict=True):
        file.add(name, shape, _INT8, grid.scale, int(grid.zero_point))
        inputs[name] = rng.integers(-128, 128, shape).astype(np.int8)
    file.add("y", shape, _INT8, output.scale, int(output.zero_point))
    return Elementwise(_finish(file, op), inputs, grids, output)


def mean(seed: int, size: int, channels: int) -> Elementwise:
    """A mean over size x size positions, to a finer grid."""
    rng = np.random.default_rng(seed)
    grid = per_tensor(np.float32(rng.uniform(0.01, 0.1)), int(rng.integers(-60, 60)))
    output = per_tensor(np.float32(grid.scale * rng.uniform(0.1, 0.5)), int(rng.integers(-60, 60)))
    x = rng.integers(-128, 128, (1, size, size, channels)).astype(np.int8)
    file = _File()
    file.add("x", x.shape, _INT8, grid.scale, int(grid.zero_point))
    file.add("axes", np.array([1, 2], np.int32), _INT32)
    file.add("y", (1, 1, 1, channels), _INT8, output.scale, int(output.zero_point))
    return Elementwise(_finish(file, "GlobalAveragePool"), {"x": x}, (grid,), output)


def qlinear(op: str, seed: int, unsigned: bool, size: int = 32) -> Elementwise:
    """ONNX Runtime's own integer Add, Mul or GlobalAveragePool; every other seed has scales that make many ties.

    Inputs and output are uint8 or int8; the grids are the signed ones.
    """
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.02, 0.1, 3) if seed % 2 else rng.choice([0.03125, 0.0625, 0.125, 0.25], 3)
    grids = [per_tensor(np.float32(scale), int(rng.integers(-60, 60))) for scale in scales]
    names = ["a"] if op == "GlobalAveragePool" else ["a", "b"]
    if op == "Mul":
        grids[2] = per_tensor(np.float32(scales[0] * scales[1] * 2.0 ** rng.integers(3, 9)), 7)
    shift, dtype = (128, np.uint8) if unsigned else (0, np.int8)
    kind = TensorProto.UINT8 if unsigned else TensorProto.INT8
    constants: dict[str, Any] = {}
    for name, grid in zip([*names, "y"], [*grids[: len(names)], grids[2]], strict=True):
        constants |= {f"{name}_s": np.float32(grid.scale), f"{name}_z": dtype(int(grid.zero_point) + shift)}
    operands = [part for name in names for part in (name, f"{name}_s", f"{name}_z")]
    attributes = {"channels_last": 0} if op == "GlobalAveragePool" else {}
    node = helper.make_node(f"QLinear{op}", [*operands, "y_s", "y_z"], ["y"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "op",
        [helper.make_tensor_value_info(name, kind, ["n", size, size, 8]) for name in names],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    inputs = {name: rng.integers(0, 256, (4, size, size, 8)).astype(np.int64) - 128 for name in names}
    fed = {name: (codes + shift).astype(dtype) for name, codes in inputs.items()}
    return Elementwise(bytes(model.SerializeToString()), fed, tuple(grids[: len(names)]), grids[2])
