"""Describe any TFLite file, whoever wrote it."""

from collections import Counter
from math import prod

from edgeq.errors import ModelError
from edgeq.exporters.inspection import Compute, Grid, Inspection
from edgeq.exporters.tflite.read import File, Operator, Tensor, read

_COMPUTE = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL", "CONV_3D"})


def inspect(data: bytes) -> Inspection:
    """Describe a file.

    Raises:
        ModelError: it is not a readable TFLite model.
    """
    file = read(data)
    counted: Counter[str] = Counter()
    for tensor in file.tensors:
        if tensor.data is not None:
            counted[tensor.dtype] += prod(tensor.shape)
    return Inspection(
        format="tflite",
        version=file.version,
        size_bytes=file.size_bytes,
        inputs={name: _described(file.tensors[index]) for name, index in file.inputs.items()},
        outputs={name: _described(file.tensors[index]) for name, index in file.outputs.items()},
        ops=dict(Counter(operator.code for operator in file.operators).most_common()),
        parameters=dict(counted.most_common()),
        compute=tuple(_compute(file, operator) for operator in file.operators if operator.code in _COMPUTE),
        grids=tuple(_grid(tensor) for tensor in file.tensors if len(tensor.scale)),
    )


def _compute(file: File, operator: Operator) -> Compute:
    # A transposed convolution reads its output shape first, then the weight, then the data.
    data_at, weight_at = (2, 1) if operator.code == "TRANSPOSE_CONV" else (0, 1)
    read = operator.inputs[: max(data_at, weight_at) + 1]
    if len(read) <= max(data_at, weight_at) or min(read) < 0 or not operator.outputs:
        raise ModelError(f"the TFLite file cannot be read: an operator {operator.code} lacks inputs or outputs")
    data, weight = file.tensors[read[data_at]], file.tensors[read[weight_at]]
    output = file.tensors[operator.outputs[0]]
    kinds = (data.dtype, weight.dtype)
    integer = all("int" in kind for kind in kinds)
    reason = "" if integer else ("float" if "int" not in kinds[1] else "only its weight is quantized")
    return Compute(output.name, operator.code, file.macs(operator), integer, reason)


def _grid(tensor: Tensor) -> Grid:
    single = len(tensor.scale) == 1
    return Grid(
        tensor=tensor.name,
        dtype=tensor.dtype,
        scales=len(tensor.scale),
        smallest_scale=float(tensor.scale.min()),
        largest_scale=float(tensor.scale.max()),
        zero_point=int(tensor.zero_point[0]) if single else None,
        axis=None if single else tensor.axis,
        constant=tensor.data is not None,
    )


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"
