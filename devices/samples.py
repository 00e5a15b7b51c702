"""Samples for a loaded artefact: checked against its inputs, brought to its dtypes, cut into requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.devices.artifact import Artifact
from edgeq.errors import DataError, DeviceError

Arrays = dict[str, npt.NDArray[Any]]

#: Bytes of samples in one request.
_REQUEST = 16 << 20


@dataclass(frozen=True)
class Tensor:
    """An input or output as the runtime describes it.

    Attributes:
        name: the model's own name of it (in a TFLite file the signature's).
        dtype: NumPy's name of its element type.
        shape: None for a dimension that is free.
        scale: of the quantization, 0 if it is not quantized.
        zero_point: of the quantization.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float
    zero_point: int

    def codes(self, real: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Real values on the tensor's grid: round half to even, saturate."""
        limits = np.iinfo(self.dtype)
        codes = np.rint(real.astype(np.float32) / np.float32(self.scale)).astype(np.float64) + self.zero_point
        result: npt.NDArray[Any] = np.clip(codes, limits.min, limits.max).astype(self.dtype)
        return result

    def real(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Real values (float32) of codes."""
        result: npt.NDArray[np.float32] = (codes.astype(np.int64) - self.zero_point).astype(np.float32) * np.float32(
            self.scale
        )
        return result


@dataclass(frozen=True, eq=False)
class Handle:
    """An artefact that a device has loaded.

    Attributes:
        name: for messages.
        artifact: the file, with what lies beside it.
        options: how the runtime was told to load it.
        inputs: what it takes.
        outputs: what it gives.
    """

    name: str
    artifact: Artifact
    options: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def output(self, name: str) -> Tensor:
        """The output of that name."""
        return next(tensor for tensor in self.outputs if tensor.name == name)


def fit(handle: Handle, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """The inputs in the model's dtypes, checked against its shapes."""
    wanted = [tensor.name for tensor in handle.inputs]
    if sorted(inputs) != sorted(wanted):
        raise DataError(f"{handle.name} takes the inputs {', '.join(wanted)}, not {', '.join(inputs) or 'none'}")
    result = {tensor.name: _fit_one(handle.name, tensor, np.asarray(inputs[tensor.name])) for tensor in handle.inputs}
    lengths = {len(result[tensor.name]) for tensor in handle.inputs if tensor.shape}
    if lengths == {0} or (len(lengths) > 1 and not _whole(handle, result)):
        raise DataError(f"{handle.name}: inputs with {sorted(lengths)} samples; give each the same number, at least 1")
    return result


def _whole(handle: Handle, inputs: Arrays) -> bool:
    """Whether the inputs are one inference in the model's own shapes, the first dimensions included."""
    shapes = ((tensor.shape, inputs[tensor.name].shape) for tensor in handle.inputs)
    return all(want in (None, has) for wanted, given in shapes for want, has in zip(wanted, given, strict=True))


def _fit_one(model: str, tensor: Tensor, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # The first dimension counts samples; the model's own is its batch size.
    fits = array.ndim == len(tensor.shape) and all(
        extent in (None, given) for extent, given in zip(tensor.shape[1:], array.shape[1:], strict=False)
    )
    if not fits:
        shape = ", ".join("?" if extent is None else str(extent) for extent in tensor.shape)
        raise DataError(f"{model}: input {tensor.name!r} takes samples of shape ({shape}), not {array.shape}")
    if array.dtype == tensor.dtype:
        return array
    floating = np.issubdtype(array.dtype, np.floating)
    if floating and tensor.scale and np.issubdtype(tensor.dtype, np.integer):
        return tensor.codes(array)
    if floating and np.issubdtype(tensor.dtype, np.floating):
        return array.astype(tensor.dtype)
    raise DataError(f"{model}: input {tensor.name!r} takes {tensor.dtype}, not {array.dtype}")


def requests(handle: Handle, inputs: Arrays) -> list[Arrays]:
    """The samples in pieces small enough for one request each."""
    batched = [tensor for tensor in handle.inputs if tensor.shape]
    if not batched or len({len(inputs[tensor.name]) for tensor in batched}) > 1:
        return [inputs]
    total = len(inputs[batched[0].name])
    each = max(1, sum(inputs[tensor.name][0].nbytes for tensor in batched))
    size = max(1, _REQUEST // each)
    if fixed := batched[0].shape[0]:
        # Whole batches, so that only the very last one needs filling up.
        size = max(fixed, size // fixed * fixed)
    names = {tensor.name for tensor in batched}
    return [
        {name: array[start : start + size] if name in names else array for name, array in inputs.items()}
        for start in range(0, total, size)
    ]


def one_sample(handle: Handle, sample: Mapping[str, npt.NDArray[Any]] | None, seed: int) -> Arrays:
    """One inference's inputs: the given sample repeated to the model's batch size, or random numbers."""
    if sample is None:
        return _random_sample(handle, seed)
    fitted = fit(handle, sample)
    if len({len(fitted[tensor.name]) for tensor in handle.inputs if tensor.shape}) > 1:
        return fitted
    for tensor in handle.inputs:
        if tensor.shape:
            fitted[tensor.name] = np.repeat(fitted[tensor.name][:1], tensor.shape[0] or 1, axis=0)
    return fitted


def _random_sample(handle: Handle, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    result = {}
    for tensor in handle.inputs:
        shape = tuple(extent or 1 for extent in tensor.shape)
        if np.issubdtype(tensor.dtype, np.floating):
            result[tensor.name] = rng.standard_normal(shape).astype(tensor.dtype)
        elif tensor.scale:
            limits = np.iinfo(tensor.dtype)
            result[tensor.name] = rng.integers(limits.min, limits.max, shape, endpoint=True).astype(tensor.dtype)
        else:
            # Indices, lengths and flags: 0 is always within range.
            result[tensor.name] = np.zeros(shape, tensor.dtype)
    return result


def tflite_names(artifact: bytes, doing: str) -> dict[str, list[str]]:
    """The names of a TFLite file's inputs and outputs by position: the signature's, else the tensors' own.

    Args:
        artifact: the file.
        doing: the beginning of an error's message.

    Raises:
        DeviceError: the bytes are no TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    if artifact[4:8] != b"TFL3":
        raise DeviceError(f"{doing}: this is no TFLite file, TFL3 is missing at its start")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(artifact, 0))
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0] if model.signatureDefs and len(model.signatureDefs) == 1 else None

    def names(indices: Iterable[int], maps: Any) -> list[str]:
        known = {int(entry.tensorIndex): _text(entry.name) for entry in maps or ()}
        return [known.get(int(index), _text(graph.tensors[index].name)) for index in indices]

    return {
        "inputs": names(graph.inputs, signature and signature.inputs),
        "outputs": names(graph.outputs, signature and signature.outputs),
    }


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
