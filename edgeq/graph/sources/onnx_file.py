"""An ``.onnx`` file as an ``onnx_ir.Model``: weights stay memory-mapped, external data must lie beside the model."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from edgeq.errors import ModelError, first_line
from edgeq.graph.sources.soundness import check_order, check_sound

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
        with _quiet():
            model = ir.load(path)
    except (DecodeError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError) as error:
        raise ModelError(f"model {path}: not a readable ONNX file ({first_line(_innermost(error))})") from error
    if not len(model.graph) and not model.graph.outputs:
        raise ModelError(f"model {path}: the file holds no ONNX graph; is it truncated?")
    version = model.opset_imports.get("", None)
    if version is None:
        raise ModelError(f"model {path}: no version of the default operator set is declared")
    check_sound(model, path)
    _forget_negative_sizes(model)
    return _modernize(model, path, version) if version < _OLDEST_NATIVE else model


def _innermost(error: BaseException) -> BaseException:
    # onnx_ir tells where it was by a chain of errors, whose first says what was wrong.
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def _forget_negative_sizes(model: ir.Model) -> None:
    """Old Paddle exporters write -1 for a dimension that is not known."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None and any(isinstance(dim, int) and dim < 0 for dim in value.shape):
            value.shape = ir.Shape([None if isinstance(dim, int) and dim < 0 else dim for dim in value.shape])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # What onnx_ir warns of while it reads is refused afterwards, in a line of its own.
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _modernize(model: ir.Model, path: Path, version: int) -> ir.Model:
    # The converter takes initializers that are listed as inputs, as old exporters wrote them, for real inputs.
    ir.passes.common.RemoveInitializersFromInputsPass()(model)
    if model.ir_version < 4:
        model.ir_version = 4
    check_order(model, str(path))
    try:
        converted = onnx.version_converter.convert_version(ir.to_proto(model), _CONVERT_TO)
    except Exception as error:  # the converter's own kinds are undocumented
        raise ModelError(
            f"model {path}: operator set {version} cannot be converted to {_CONVERT_TO} ({first_line(error)}); "
            "export it anew with opset 13 or later"
        ) from error
    with _quiet():
        native: ir.Model = ir.from_proto(converted)
    return native
