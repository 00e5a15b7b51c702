"""Describe any ONNX file, float or quantized by any tool: what it says, and what ONNX Runtime makes of it here."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from edgeq.errors import ModelError
from edgeq.exporters.inspection import Compute, Grid, Inspection
from edgeq.exporters.onnx.audit import INTEGER_KERNELS, optimized_graph

#: Ops with multiply-accumulates -> positions of data and weight among the inputs.
_COMPUTE = {
    "Conv": (0, 1), "ConvTranspose": (0, 1), "Gemm": (0, 1), "MatMul": (0, 1), "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1), "QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "QGemm": (0, 3),
}  # fmt: skip
_INTEGER_OPS = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm"})


def inspect(data: bytes, beside: Path | None = None) -> Inspection:
    """Describe a file.

    Args:
        data: the file's content.
        beside: the folder of its external data; None if it has none.

    Raises:
        ModelError: it is not a readable ONNX model.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"not a readable ONNX file: {error}") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError("the file holds no ONNX graph")
    model = _with_shapes(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value" and node.output
    }
    shapes = {value.name: _shape(value) for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    shapes |= {name: tuple(tensor.dims) for name, tensor in constants.items()}
    fed = [value for value in model.graph.input if value.name not in constants]
    return Inspection(
        format="onnx",
        version=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        size_bytes=len(data),
        inputs={value.name: _described(value) for value in fed},
        outputs={value.name: _described(value) for value in model.graph.output},
        ops=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        parameters=_parameters(constants),
        compute=_compute(model, data, beside, shapes),
        grids=tuple(_grids(model, constants, beside)),
    )


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # the checker and the inference raise kinds of their own; shapes then stay unknown
        return model


def _compute(
    model: onnx.ModelProto, data: bytes, beside: Path | None, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Compute, ...]:
    nodes = [
        node for node in model.graph.node if len(node.input) > max(_COMPUTE.get(node.op_type, (99,))) and node.output
    ]
    if not nodes:
        return ()
    makers = {output: node for node in model.graph.node for output in node.output}
    try:
        optimized = optimized_graph(data, beside)
    except ModelError:
        optimized = model  # custom ops: the file's own word must do
    kernels = [node for node in optimized.graph.node if node.op_type in INTEGER_KERNELS | _INTEGER_OPS]
    names = {node.name for node in kernels if node.name}
    used = {value for node in kernels for value in node.input}
    rows = []
    for node in nodes:
        weight = node.input[_COMPUTE[node.op_type][1]]
        dequantize = makers.get(weight)
        codes = dequantize.input[0] if dequantize is not None and dequantize.op_type == "DequantizeLinear" else weight
        integer = node.op_type in _INTEGER_OPS or node.name in names or codes in used
        source = makers.get(node.input[0])
        reason = "" if integer else _why(source, dequantize)
        rows.append(Compute(node.name or node.output[0], node.op_type, _macs(node, shapes), integer, reason))
    return tuple(rows)


def _why(source: onnx.NodeProto | None, weight: onnx.NodeProto | None) -> str:
    quantized = [maker is not None and maker.op_type == "DequantizeLinear" for maker in (source, weight)]
    if quantized == [True, True]:
        return "quantized in the file, but ONNX Runtime does not fuse it on this machine"
    if quantized == [False, True]:
        return "only its weight is quantized"
    return "its weight is float" if quantized[0] else "float"


def _macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    data, weight = (shapes.get(node.input[position], ()) for position in _COMPUTE[node.op_type])
    output = shapes.get(node.output[0], ())
    if not weight or not output or not data:
        return 0
    if "Conv" in node.op_type:
        return prod(data if node.op_type == "ConvTranspose" else output) * prod(weight[1:])
    return prod(output) * data[-1]


def _grids(model: onnx.ModelProto, constants: Mapping[str, onnx.TensorProto], beside: Path | None) -> list[Grid]:
    found: dict[str, Grid] = {}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        scale = _numbers(constants[node.input[1]], beside)
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        codes = node.input[0]
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        zeros = None if zero is None else _numbers(zero, beside)
        if not scale.size or scale.dtype.kind != "f":
            continue
        found[codes] = Grid(
            tensor=codes,
            dtype=_type_name(zero.data_type if zero is not None else onnx.TensorProto.UINT8),
            scales=scale.size,
            smallest_scale=float(scale.min()),
            largest_scale=float(scale.max()),
            zero_point=int(zeros.reshape(-1)[0]) if zeros is not None and zeros.size == scale.size == 1 else None,
            axis=int(axis) if scale.size > 1 else None,
            constant=codes in constants,
        )
    return list(found.values())


def _numbers(tensor: onnx.TensorProto, beside: Path | None) -> npt.NDArray[Any]:
    return np.asarray(ir.serde.deserialize_tensor(tensor, "" if beside is None else str(beside)).numpy())


def _parameters(constants: Mapping[str, onnx.TensorProto]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for tensor in constants.values():
        counted[_type_name(tensor.data_type)] += prod(tensor.dims)
    return dict(counted.most_common())


def _shape(value: Any) -> tuple[int, ...]:
    # A dimension without a number is the batch, of which one sample counts.
    return tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)


def _described(value: Any) -> str:
    dims = [str(dim.dim_value or dim.dim_param or "?") for dim in value.type.tensor_type.shape.dim]
    return f"{_type_name(value.type.tensor_type.elem_type)} ({', '.join(dims)})"


def _type_name(data_type: int) -> str:
    if data_type not in onnx.TensorProto.DataType.values():
        return f"type {data_type}"
    name = str(onnx.TensorProto.DataType.Name(data_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
