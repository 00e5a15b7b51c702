"""Write a ``.tflite`` file: tensors, buffers, operators, signature and metadata, deterministic to the byte."""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError, TooLargeError
from edgeq.exporters.tflite.schema import TENSOR_TYPES, S, options_type, version
from edgeq.plan.quantization import Quantization

_LIMIT = 2**31 - 1
_IDENTIFIER = b"TFL3"


def check_size(constants: int) -> None:
    """Refuse what the format cannot hold.

    Args:
        constants: bytes of them.

    Raises:
        TooLargeError: they are too many.
    """
    if constants > _LIMIT - (1 << 24):
        raise TooLargeError(
            f"the constants take {constants >> 20:,} MiB, and a .tflite file, a flatbuffer, holds less than 2,048; "
            "take the ONNX file, with `--device cpu-onnxruntime`"
        )


class Writer:
    """Collects the one subgraph of a model; :meth:`finish` gives the bytes."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._dtypes: list[str] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._buffers: list[Any] = [S.BufferT()]
        self._buffer_of: dict[bytes, int] = {}
        self._constants: dict[tuple[object, ...], int] = {}
        self._names: set[str] = set()
        self._bytes = 0

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, grid: Quantization | None = None, axis: int | None = None
    ) -> int:
        """Add a computed tensor; its name is made unique.

        Args:
            name: the ONNX value's name.
            shape: as stored.
            dtype: NumPy's name of the type.
            grid: scale and zero point, or None.
            axis: the stored axis that a per-channel grid counts.
        """
        tensor = S.TensorT()
        tensor.name = self._unique(name)
        tensor.shape = [int(size) for size in shape]
        tensor.type = TENSOR_TYPES[dtype]
        tensor.hasRank = True
        tensor.buffer = 0
        if grid is not None:
            tensor.quantization = _quantization(grid, axis)
        self._tensors.append(tensor)
        self._dtypes.append(dtype)
        return len(self._tensors) - 1

    def constant(
        self,
        name: str,
        array: npt.NDArray[Any],
        grid: Quantization | None = None,
        axis: int | None = None,
        *,
        packed_int4: bool = False,
    ) -> int:
        """Add a constant; equal constants on the same grid are stored once."""
        data = np.ascontiguousarray(array)
        dtype = "int4" if packed_int4 else data.dtype.name
        if dtype not in TENSOR_TYPES:
            raise ModelError(f"constant {name!r}: the type {dtype} has no counterpart in TFLite")
        raw = (pack_int4(data) if packed_int4 else data).tobytes()
        key = (raw, dtype, data.shape, _grid_key(grid), axis)
        if key not in self._constants:
            index = self.tensor(name, data.shape, dtype, grid, axis)
            self._tensors[index].buffer = self._buffer(raw)
            self._constants[key] = index
        return self._constants[key]

    def blocks(self, name: str, codes: npt.NDArray[Any], scales: npt.NDArray[Any], block: int) -> int:
        """Add 4-bit codes (outputs, inputs) with float16 scales (outputs, inputs / block) of their own tensor."""
        beside = self.constant(f"{name}::scales", scales.astype(np.float16))
        index = self.tensor(name, codes.shape, "int4")
        grid, details = S.QuantizationParametersT(), S.BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = beside, -1, block
        grid.detailsType, grid.details = S.QuantizationDetails.BlockwiseQuantization, details
        self._tensors[index].quantization = grid
        self._tensors[index].buffer = self._buffer(pack_int4(codes).tobytes())
        return index

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], option: Any = None) -> None:
        """Append an operator; its version follows from the type of its data."""
        dtype = self._dtypes[inputs[2 if code == "TRANSPOSE_CONV" else 0]]
        number = 1 if code == "QUANTIZE" and dtype == "float32" else version(code, dtype)
        self.operator_version(code, number, inputs, outputs, option)

    def operator_version(
        self, code: str, number: int, inputs: Sequence[int], outputs: Sequence[int], option: Any = None
    ) -> None:
        """Append an operator of a stated version."""
        operator = S.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, number), len(self._codes))
        operator.inputs = list(inputs)
        operator.outputs = list(outputs)
        if option is not None:
            operator.builtinOptionsType = options_type(option)
            operator.builtinOptions = option
        self._operators.append(operator)

    def computed(self, tensor: int) -> bool:
        """Whether an operator makes the tensor; else it is a constant or an input."""
        return any(tensor in operator.outputs for operator in self._operators)

    def name(self, tensor: int) -> str:
        """The name of a tensor."""
        return str(self._tensors[tensor].name)

    def dtype(self, tensor: int) -> str:
        """The type of a tensor."""
        return self._dtypes[tensor]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The stored shape of a tensor."""
        return tuple(self._tensors[tensor].shape)

    def finish(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        metadata: Mapping[str, bytes],
        description: str,
    ) -> bytes:
        """The file. Inputs and outputs are tensors by signature name, in order.

        Raises:
            TooLargeError: the file would pass the 2 GB that the format can address.
        """
        subgraph = S.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = list(inputs.values())
        subgraph.outputs = list(outputs.values())
        model = S.ModelT()
        model.version = 3
        model.description = description
        model.operatorCodes = [_operator_code(code, number) for code, number in self._codes]
        model.subgraphs = [subgraph]
        model.metadata = [self._metadata(key, value) for key, value in metadata.items()]
        model.buffers = self._buffers
        model.signatureDefs = [_signature(inputs, outputs)]
        builder = flatbuffers.Builder(min(self._bytes + (1 << 16), _LIMIT))
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _metadata(self, name: str, value: bytes) -> Any:
        entry = S.MetadataT()
        entry.name = name
        entry.buffer = self._buffer(value)
        return entry

    def _buffer(self, raw: bytes) -> int:
        if raw not in self._buffer_of:
            buffer = S.BufferT()
            buffer.data = np.frombuffer(raw, np.uint8)
            self._buffers.append(buffer)
            self._buffer_of[raw] = len(self._buffers) - 1
            self._bytes += len(raw) + 64
            check_size(self._bytes)
        return self._buffer_of[raw]

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}::{count}"
        self._names.add(candidate)
        return candidate


def pack_int4(codes: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Two codes a byte, the first in the low half, as LiteRT's INT4 wants them."""
    flat = codes.reshape(-1).astype(np.int8)
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    packed: npt.NDArray[np.uint8] = ((flat[0::2] & 0xF) | ((flat[1::2] & 0xF) << 4)).astype(np.uint8)
    return packed


def _quantization(grid: Quantization, axis: int | None) -> Any:
    result = S.QuantizationParametersT()
    result.scale = [float(scale) for scale in np.atleast_1d(grid.scale)]
    result.zeroPoint = [int(zero) for zero in np.atleast_1d(grid.zero_point)]
    result.quantizedDimension = axis or 0
    return result


def _grid_key(grid: Quantization | None) -> object:
    return None if grid is None else (grid.scale.tobytes(), grid.zero_point.tobytes())


def _operator_code(code: str, number: int) -> Any:
    result = S.OperatorCodeT()
    result.builtinCode = getattr(S.BuiltinOperator, code)
    result.deprecatedBuiltinCode = min(result.builtinCode, S.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    result.version = number
    return result


def _signature(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    result = S.SignatureDefT()
    result.signatureKey = "serving_default"
    result.subgraphIndex = 0
    result.inputs = [_tensor_map(name, index) for name, index in inputs.items()]
    result.outputs = [_tensor_map(name, index) for name, index in outputs.items()]
    return result


def _tensor_map(name: str, index: int) -> Any:
    result = S.TensorMapT()
    result.name = name
    result.tensorIndex = index
    return result
