"""An ``.onnx`` file as an ``onnx_ir.Model``: weights stay memory-mapped, external data must lie beside the model."""

from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from edgeq.errors import ModelError

#: Older operator sets are converted to this one by ONNX's own version converter.
_CONVERT_TO = 18
_OLDEST_NATIVE = 13


def read_onnx(path: Path) -> ir.Model:
    """Read and check a model file.

    Raises:
        ModelError: the file is missing, truncated, not ONNX, of an operator set that cannot be converted, or refers to
            external data that is missing, too short, or outside of the model's folder.
    """
    if not path.is_file():
        raise ModelError(f"model {path}: no such file")
    try:
        model = ir.load(path)
    except (DecodeError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError) as error:
        raise ModelError(f"model {path}: not a readable ONNX file ({_first_line(error)})") from error
    if not len(model.graph) and not model.graph.outputs:
        raise ModelError(f"model {path}: the file holds no ONNX graph; is it truncated?")
    check_external_data(model, path)
    _forget_negative_sizes(model)
    version = model.opset_imports.get("", None)
    if version is None:
        raise ModelError(f"model {path}: no version of the default operator set is declared")
    return _modernize(model, path, version) if version < _OLDEST_NATIVE else model


def check_external_data(model: ir.Model, path: Path) -> None:
    """Refuse external data that is outside of the model's folder, missing, or shorter than declared."""
    folder = path.resolve().parent
    for value in _initializers(model):
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        where = (folder / tensor.location).resolve()
        if Path(tensor.location).is_absolute() or not where.is_relative_to(folder):
            raise ModelError(
                f"model {path}: tensor {value.name!r} refers to data outside of the model's folder "
                f"({tensor.location}); place the data beside the model"
            )
        if not where.is_file():
            raise ModelError(f"model {path}: external data {tensor.location!r} of tensor {value.name!r} is missing")
        needed = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
        if where.stat().st_size < needed or (tensor.length is not None and tensor.length < tensor.nbytes):
            raise ModelError(
                f"model {path}: external data {tensor.location!r} has {where.stat().st_size} bytes, but tensor "
                f"{value.name!r} needs {needed}; the file is truncated"
            )


def _forget_negative_sizes(model: ir.Model) -> None:
    """Old Paddle exporters write -1 for a dimension that is not known."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None and any(isinstance(dim, int) and dim < 0 for dim in value.shape):
            value.shape = ir.Shape([None if isinstance(dim, int) and dim < 0 else dim for dim in value.shape])


def _initializers(model: ir.Model) -> list[ir.Value]:
    found = list(model.graph.initializers.values())
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found.extend(attribute.as_graph().initializers.values())
    return found


def _modernize(model: ir.Model, path: Path, version: int) -> ir.Model:
    # The converter takes initializers that are listed as inputs, as old exporters wrote them, for real inputs.
    ir.passes.common.RemoveInitializersFromInputsPass()(model)
    if model.ir_version < 4:
        model.ir_version = 4
    try:
        converted = onnx.version_converter.convert_version(ir.to_proto(model), _CONVERT_TO)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"model {path}: operator set {version} cannot be converted to {_CONVERT_TO} ({_first_line(error)}); "
            "export it anew with opset 13 or later"
        ) from error
    native: ir.Model = ir.from_proto(converted)
    return native


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
