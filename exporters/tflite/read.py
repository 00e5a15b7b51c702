"""Read any ``.tflite`` file into a plain description, whatever is in it: a damaged file is a one-line ModelError."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError
from edgeq.exporters.tflite.flat import Flat
from edgeq.exporters.tflite.schema import ACTIVATION_NAMES, OPERATOR_NAMES, TYPE_NAMES

_LARGEST_RANK = 64
#: The kind of quantization details that has scales for blocks.
_BLOCKWISE = 2
_STORED_AS: dict[str, str] = {
    "float32": "<f4", "float16": "<f2", "float64": "<f8", "int8": "<i1", "int16": "<i2", "int32": "<i4",
    "int64": "<i8", "uint8": "<u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8", "bool": "<u1",
}  # fmt: skip
_BITS: dict[str, int] = {"int4": 4, "uint4": 4, "int2": 2}
#: Operators that fuse an activation -> its field among their options.
_ACTIVATION: dict[str, int] = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 3, "ADD": 0, "SUB": 0, "MUL": 0,
    "DIV": 0, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "CONCATENATION": 1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file.

    Attributes:
        name: as written.
        shape: as stored.
        dtype: NumPy's name where there is one, else the schema's in lower case.
        scale: float32 (0,) if it has none, (1,) per tensor, (channels,) per channel.
        zero_point: int64, same length.
        axis: the stored axis that several scales count, or None.
        data: the constant's bytes, or None if it is computed.
        block: how many codes of a row share a scale; 0 if it has no blocks.
        block_scales: the tensor that holds the scales of its blocks.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None
    data: bytes | None
    block: int = 0
    block_scales: int = -1

    @property
    def integer(self) -> bool:
        """Whether it holds quantized codes."""
        return (self.scale.size > 0 or self.block > 0) and self.dtype.startswith(("int", "uint"))

    @property
    def array(self) -> npt.NDArray[Any]:
        """The constant's numbers; sub-byte codes as int8.

        Raises:
            ModelError: it is computed, of a type without numbers, or its bytes do not fit its shape.
        """
        if self.data is None:
            raise ModelError(f"tensor {self.name!r} is computed, not constant")
        count = prod(self.shape)
        if self.dtype in _BITS:
            return _unpack(self.data, count, _BITS[self.dtype], self.dtype.startswith("u")).reshape(self.shape)
        if self.dtype not in _STORED_AS:
            raise ModelError(f"tensor {self.name!r} holds {self.dtype}, which edgeq does not read")
        kind = np.dtype(_STORED_AS[self.dtype])
        if len(self.data) != count * kind.itemsize:
            raise ModelError(f"tensor {self.name!r}: {len(self.data)} bytes do not fit shape {self.shape}")
        return np.frombuffer(self.data, kind).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator: its name, version, indices of its tensors (-1 for an omitted one), and fused activation."""

    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"


@dataclass(frozen=True, eq=False)
class File:
    """A model: its main subgraph, and the names of its signature.

    Attributes:
        version: of the schema.
        tensors: of the main subgraph.
        operators: in order.
        inputs: name -> tensor index.
        outputs: name -> tensor index.
        layouts: input or output name -> permutation of the ONNX axes, where edgeq wrote the file.
        subgraphs: how many there are.
        size_bytes: of the file.
    """

    version: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    layouts: Mapping[str, tuple[int, ...]]
    subgraphs: int
    size_bytes: int

    def macs(self, operator: Operator) -> int:
        """Multiply-accumulates of an operator; 0 for one that has no products of matrices."""
        shapes = [self.tensors[index].shape if index >= 0 else () for index in operator.inputs]
        outputs = prod(self.tensors[operator.outputs[0]].shape) if operator.outputs else 0
        if len(shapes) < 2:
            return 0
        if operator.code == "CONV_2D":
            return outputs * prod(shapes[1][1:])
        if operator.code == "DEPTHWISE_CONV_2D":
            return outputs * prod(shapes[1][:-1])
        if operator.code == "FULLY_CONNECTED":
            return outputs * (shapes[1][-1] if shapes[1] else 0)
        if operator.code == "TRANSPOSE_CONV":
            return prod(shapes[2]) * prod(shapes[1][:-1]) if len(shapes) > 2 else 0
        if operator.code == "BATCH_MATMUL" and len(shapes[0]) > 1 and operator.outputs:
            rows = max(1, self.tensors[operator.outputs[0]].shape[-2])
            return outputs * (prod(shapes[0][-2:]) // rows)
        return 0

    def computes_on_codes(self, operator: Operator) -> bool:
        """Whether its first output and all that it multiplies are codes."""
        used = [self.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
        data = [tensor for tensor in used if tensor.dtype not in ("int32", "int64", "bool")]
        return bool(data) and all(tensor.integer for tensor in data)


def read(data: bytes) -> File:
    """Read a file.

    Raises:
        ModelError: it is no TFLite model, or is damaged; one line says how.
    """
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelError("not a TFLite model: it does not begin as one; it is cut short, or of another kind")
    flat = Flat(data, budget=4 * len(data))
    try:
        return _read(flat)
    except ModelError as error:
        raise ModelError(f"the TFLite file cannot be read: {error}") from None


def _read(flat: Flat) -> File:
    model = flat.root()
    version = flat.number(model, 0, "I", 0)
    if version != 3:
        raise ModelError(f"schema version {version}; edgeq reads version 3")
    subgraphs = flat.tables(model, 2)
    if not subgraphs:
        raise ModelError("it holds no subgraph")
    buffers = [_buffer(flat, table) for table in flat.tables(model, 4)]
    tensors = tuple(_tensor(flat, table, buffers) for table in flat.tables(subgraphs[0], 0))
    codes = [_code(flat, table) for table in flat.tables(model, 1)]
    operators = tuple(_operator(flat, table, codes, len(tensors)) for table in flat.tables(subgraphs[0], 3))
    inputs, outputs = (_indices(flat, subgraphs[0], field, len(tensors), 0) for field in (1, 2))
    named = _signature(flat, model, len(tensors))
    return File(
        version=version,
        tensors=tensors,
        operators=operators,
        inputs=named[0] or {tensors[index].name: index for index in inputs},
        outputs=named[1] or {tensors[index].name: index for index in outputs},
        layouts=_layouts(flat, model, buffers),
        subgraphs=len(subgraphs),
        size_bytes=len(flat.data),
    )


def _buffer(flat: Flat, table: int) -> bytes | None:
    offset, size = flat.number(table, 1, "Q", 0), flat.number(table, 2, "Q", 0)
    if offset > 1:
        # Files over 2 GB keep their constants behind the flatbuffer.
        if offset + size > len(flat.data):
            raise ModelError("a constant lies beyond the end of the file; it is cut short")
        return flat.slice(offset, size)
    return flat.raw(table, 0)


def _code(flat: Flat, table: int) -> tuple[str, int]:
    number = max(flat.number(table, 0, "b", 0), flat.number(table, 3, "i", 0))
    if number not in OPERATOR_NAMES:
        raise ModelError(f"operator code {number} is not in the schema")
    name = OPERATOR_NAMES[number]
    return (f"CUSTOM {flat.text(table, 1)}" if name == "CUSTOM" else name), flat.number(table, 2, "i", 1)


def _tensor(flat: Flat, table: int, buffers: list[bytes | None]) -> Tensor:
    name = flat.text(table, 3)
    shape = flat.numbers(table, 0, "int32")
    kind = flat.number(table, 1, "b", 0)
    if kind not in TYPE_NAMES:
        raise ModelError(f"tensor {name!r} has the unknown type {kind}")
    if shape is not None and (shape.size > _LARGEST_RANK or (shape < 0).any()):
        raise ModelError(f"tensor {name!r} has an impossible shape")
    number = flat.number(table, 2, "I", 0)
    if number >= max(len(buffers), 1):
        raise ModelError(f"tensor {name!r} names buffer {number}, of {len(buffers)}")
    scale, zero_point, axis = _grid(flat, table, name)
    data = buffers[number] if buffers and number else None
    shown = () if shape is None else tuple(shape.tolist())
    return Tensor(name, shown, TYPE_NAMES[kind], scale, zero_point, axis, data, *_blocks(flat, table))


def _blocks(flat: Flat, table: int) -> tuple[int, int]:
    """(codes in a block, tensor of the blocks' scales), or (0, -1)."""
    grid = flat.table(table, 4)
    details = flat.table(grid, 5) if grid is not None and flat.number(grid, 4, "B", 0) == _BLOCKWISE else None
    return (0, -1) if details is None else (flat.number(details, 2, "i", 0), flat.number(details, 0, "i", -1))


def _grid(flat: Flat, table: int, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int | None]:
    grid = flat.table(table, 4)
    scale = None if grid is None else flat.numbers(grid, 2, "float32")
    if grid is None or scale is None or not scale.size:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), None
    zero_point = flat.numbers(grid, 3, "int64")
    if zero_point is None or not zero_point.size:
        zero_point = np.zeros(scale.size, np.int64)
    if zero_point.size != scale.size:
        raise ModelError(f"tensor {name!r} has {scale.size} scales and {zero_point.size} zero points")
    return scale, zero_point, flat.number(grid, 6, "i", 0) if scale.size > 1 else None


def _operator(flat: Flat, table: int, codes: list[tuple[str, int]], tensors: int) -> Operator:
    number = flat.number(table, 0, "I", 0)
    if number >= len(codes):
        raise ModelError(f"an operator names code {number}, of {len(codes)}")
    code, version = codes[number]
    option = flat.table(table, 4) if code in _ACTIVATION else None
    fused = 0 if option is None else flat.number(option, _ACTIVATION[code], "b", 0)
    if fused not in ACTIVATION_NAMES:
        raise ModelError(f"an operator {code} has the unknown activation {fused}")
    inputs, outputs = _indices(flat, table, 1, tensors, -1), _indices(flat, table, 2, tensors, 0)
    return Operator(code, version, inputs, outputs, ACTIVATION_NAMES[fused])


def _indices(flat: Flat, table: int, field: int, tensors: int, lowest: int) -> tuple[int, ...]:
    found = flat.numbers(table, field, "int32")
    if found is None:
        return ()
    if ((found < lowest) | (found >= tensors)).any():
        raise ModelError(f"an index names a tensor that does not exist, of {tensors}")
    return tuple(found.tolist())


def _signature(flat: Flat, model: int, tensors: int) -> tuple[dict[str, int], dict[str, int]]:
    found: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for table in flat.tables(model, 7)[:1]:
        for names, field in zip(found, (0, 1), strict=True):
            for entry in flat.tables(table, field):
                index = flat.number(entry, 1, "I", 0)
                if index >= tensors:
                    raise ModelError(f"the signature names a tensor that does not exist, of {tensors}")
                names[flat.text(entry, 0)] = index
    return found


def _layouts(flat: Flat, model: int, buffers: list[bytes | None]) -> dict[str, tuple[int, ...]]:
    for table in flat.tables(model, 6):
        number = flat.number(table, 1, "I", 0)
        if flat.text(table, 0) == "edgeq.layout" and number < len(buffers):
            try:
                entry = json.loads(buffers[number] or b"{}")
                return {
                    str(name): tuple(int(axis) for axis in permutation)
                    for part in ("inputs", "outputs")
                    for name, permutation in entry[part].items()
                }
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise ModelError("its layout metadata is damaged") from None
    return {}


def _unpack(data: bytes, count: int, bits: int, unsigned: bool) -> npt.NDArray[np.int8]:
    each = 8 // bits
    packed = np.frombuffer(data, np.uint8)
    if packed.size * each < count:
        raise ModelError(f"{packed.size} bytes do not hold {count} codes of {bits} bits")
    codes = np.stack([(packed >> (bits * part)) & (2**bits - 1) for part in range(each)], axis=1).reshape(-1)[:count]
    signed = codes.astype(np.int16)
    return (signed if unsigned else np.where(signed >= 2 ** (bits - 1), signed - 2**bits, signed)).astype(np.int8)
