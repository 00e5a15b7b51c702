"""The LiteRT flatbuffer schema as ai-edge-litert ships it, and the types and versions that edgeq writes.

The generated module has no types; this is the one place that touches it untyped.
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated

S: Any = schema_py_generated

#: NumPy dtype name -> TensorType.
TENSOR_TYPES: dict[str, int] = {
    "float32": S.TensorType.FLOAT32,
    "float16": S.TensorType.FLOAT16,
    "float64": S.TensorType.FLOAT64,
    "int4": S.TensorType.INT4,
    "int8": S.TensorType.INT8,
    "int16": S.TensorType.INT16,
    "int32": S.TensorType.INT32,
    "int64": S.TensorType.INT64,
    "uint8": S.TensorType.UINT8,
    "bool": S.TensorType.BOOL,
}
TYPE_NAMES: dict[int, str] = {
    value: name.lower() for name, value in vars(S.TensorType).items() if not name.startswith("_")
}
OPERATOR_NAMES: dict[int, str] = {
    value: name for name, value in vars(S.BuiltinOperator).items() if not name.startswith("_")
}
ACTIVATION_NAMES: dict[int, str] = {
    value: name for name, value in vars(S.ActivationFunctionType).items() if not name.startswith("_")
}

#: Version of an op by the type of its first input: the lowest that has that kernel, so that old runtimes take the file.
#: From the version table of the TensorFlow Lite sources (op_version.cc).
_VERSIONS: dict[str, dict[str, int]] = {
    "CONV_2D": {"int8": 3, "int16": 4},
    "DEPTHWISE_CONV_2D": {"int8": 3, "int16": 5},
    "FULLY_CONNECTED": {"int8": 4, "int16": 7},
    "TRANSPOSE_CONV": {"float32": 3, "int8": 3, "int16": 3},
    "ADD": {"int8": 2, "int16": 3},
    "SUB": {"int8": 2, "int16": 5},
    "MUL": {"int8": 2, "int16": 4},
    "BATCH_MATMUL": {"int8": 2, "int16": 3},
    "STRIDED_SLICE": {"int8": 2, "int16": 4},
    "SLICE": {"int8": 2, "int16": 4},
    "GATHER": {"int8": 2, "int16": 4},
    "MAXIMUM": {"int8": 2, "int16": 4},
    "MINIMUM": {"int8": 2, "int16": 4},
    "RESIZE_BILINEAR": {"float32": 3, "int8": 3, "int16": 4},
    "RESIZE_NEAREST_NEIGHBOR": {"float32": 3, "int8": 3, "int16": 4},
    "RSQRT": {"int8": 2, "int16": 3},
    "QUANTIZE": {"int8": 2, "int16": 3},
    "DEQUANTIZE": {"int8": 2, "int16": 3},
    "LEAKY_RELU": {"int8": 2, "int16": 2},
    "HARD_SWISH": {"int8": 1},
    "ELU": {"int8": 1},
    "PRELU": {"int8": 1},
    "RESHAPE": {"int8": 1, "int16": 1},
    "GELU": {"int8": 2, "int16": 2},
    "SQUARE": {"int8": 1},
    "TILE": {"int8": 1},
    "DEPTH_TO_SPACE": {"int8": 1},
    "SPACE_TO_DEPTH": {"int8": 1},
    "BROADCAST_TO": {"int8": 2},
}
_DEFAULT_VERSIONS = {"int8": 2, "int16": 3}


def version(operator: str, dtype: str) -> int:
    """The version to write for an op whose first input has that type."""
    return _VERSIONS.get(operator, _DEFAULT_VERSIONS).get(dtype, 1)


def options(kind: str, **fields: Any) -> Any:
    """A builtin-options object, for example ``options("Conv2D", strideW=2, ...)``."""
    result = getattr(S, f"{kind}OptionsT")()
    for key, value in fields.items():
        if not hasattr(result, key):
            raise AttributeError(f"{kind}Options has no field {key}")
        setattr(result, key, value)
    return result


def options_type(value: Any) -> int:
    """The BuiltinOptions union tag of an options object."""
    return int(getattr(S.BuiltinOptions, type(value).__name__.removesuffix("T")))


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name under which a NumPy type is written."""
    return dtype.name
