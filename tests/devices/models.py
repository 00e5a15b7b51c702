"""Tiny models for the device tests: the same integer layer as QDQ ONNX and as TFLite, and float ones."""

import json
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)
WEIGHT = RNG.integers(-127, 128, (5, 6)).astype(np.int8)
BIAS = RNG.integers(-900, 900, 5).astype(np.int32)
IN_SCALE, IN_ZERO = np.float32(0.05), -3
OUT_SCALE, OUT_ZERO = np.float32(0.15), 4
WEIGHT_SCALE = np.float32(0.01)
SAMPLES = RNG.normal(0, 2, (11, 6)).astype(np.float32)


def float_layer(x: np.ndarray) -> np.ndarray:
    """The layer in real numbers."""
    return x @ (WEIGHT.astype(np.float32) * WEIGHT_SCALE).T + BIAS * (IN_SCALE * WEIGHT_SCALE)


def integer_layer(x: np.ndarray) -> np.ndarray:
    """Output codes (int8) of the integer layer, requantized in float32, as both runtimes' default kernels do."""
    codes = np.clip(np.rint(x / IN_SCALE) + IN_ZERO, -128, 127).astype(np.int64)
    accumulated = (codes - IN_ZERO) @ WEIGHT.astype(np.int64).T + BIAS
    multiplier = np.float32(IN_SCALE * WEIGHT_SCALE / OUT_SCALE)
    return np.clip(np.rint(accumulated.astype(np.float32) * multiplier) + OUT_ZERO, -128, 127).astype(np.int8)


def onnx_float() -> bytes:
    """y = x W' + b with a free batch dimension."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    weights = {"w": WEIGHT * WEIGHT_SCALE, "b": BIAS * (IN_SCALE * WEIGHT_SCALE)}
    return _onnx(nodes, {k: v.astype(np.float32) for k, v in weights.items()}, batch="n")


def onnx_integer(batch: str | int = "n") -> bytes:
    """The integer layer as QDQ with uint8 activations: the same grid, shifted by 128."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"]),
        helper.make_node("DequantizeLinear", ["b", "sb", "zb"], ["bd"]),
        helper.make_node("Gemm", ["xd", "wd", "bd"], ["yf"], transB=1),
        helper.make_node("QuantizeLinear", ["yf", "sy", "zy"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]),
    ]
    constants = {
        "sx": IN_SCALE, "zx": np.uint8(IN_ZERO + 128), "sy": OUT_SCALE, "zy": np.uint8(OUT_ZERO + 128),
        "w": WEIGHT, "sw": WEIGHT_SCALE, "zw": np.int8(0),
        "b": BIAS, "sb": np.float32(IN_SCALE * WEIGHT_SCALE), "zb": np.int32(0),
    }  # fmt: skip
    return _onnx(nodes, constants, batch)


def onnx_log() -> bytes:
    """y = log(x), which is NaN below zero."""
    return _onnx([helper.make_node("Log", ["x"], ["y"])], {}, batch="n", width=6)


def _onnx(nodes: list[Any], constants: dict[str, Any], batch: str | int, width: int = 5) -> bytes:
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Tflite:
    """Builds a flatbuffer of one subgraph."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors = []

    def tensor(self, name: str, data: np.ndarray | tuple[int, ...], kind: int, scale: Any = None, zero: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.hasRank = name, kind, True
        tensor.shape = list(data.shape if isinstance(data, np.ndarray) else data)
        if isinstance(data, np.ndarray):
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [float(scale)], [zero]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def fully_connected(self, inputs: list[int], output: int, version: int) -> bytes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
        code.version = version
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        self.graph.inputs, self.graph.outputs, self.graph.operators = inputs[:1], [output], [operator]
        self.model.operatorCodes, self.model.subgraphs = [code], [self.graph]
        self.model.signatureDefs = [self._signature(inputs[0], output)]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    @staticmethod
    def _signature(first: int, last: int) -> schema.SignatureDefT:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        maps = []
        for name, index in (("x", first), ("y", last)):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            maps.append(entry)
        signature.inputs, signature.outputs = maps[:1], maps[1:]
        return signature


def tflite_integer(batch: int = 1) -> bytes:
    """The integer layer; tensors are named otherwise than the signature's x and y."""
    build, kind = _Tflite(), schema.TensorType
    tensors = [
        build.tensor("serving_x:0", (batch, 6), kind.INT8, IN_SCALE, IN_ZERO),
        build.tensor("w", WEIGHT, kind.INT8, WEIGHT_SCALE),
        build.tensor("b", BIAS, kind.INT32, np.float32(IN_SCALE * WEIGHT_SCALE)),
    ]
    return build.fully_connected(tensors, build.tensor("out", (batch, 5), kind.INT8, OUT_SCALE, OUT_ZERO), 4)


def tflite_float() -> bytes:
    """The float layer."""
    build, kind = _Tflite(), schema.TensorType
    weight, bias = WEIGHT * WEIGHT_SCALE, BIAS * np.float32(IN_SCALE * WEIGHT_SCALE)
    tensors = [
        build.tensor("serving_x:0", (1, 6), kind.FLOAT32),
        build.tensor("w", weight.astype(np.float32), kind.FLOAT32),
        build.tensor("b", bias.astype(np.float32), kind.FLOAT32),
    ]
    return build.fully_connected(tensors, build.tensor("out", (1, 5), kind.FLOAT32), 1)


def null_model(dtype: str = "f4", **more: Any) -> bytes:
    """A model of the null device: y = x."""
    x, y = ({"name": name, "dtype": dtype, "shape": [None, 6]} for name in "xy")
    return json.dumps({"inputs": [x], "outputs": [y], **more}).encode()
