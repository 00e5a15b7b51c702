"""Graph + plan -> an ONNX model with QuantizeLinear/DequantizeLinear pairs that ONNX Runtime runs in integer kernels.

``rewrite.py`` puts the plan into the graph; here the result becomes a file, or from 2 GiB on two: a protobuf message
cannot be larger, so the constants lie beside it.
"""

from pathlib import Path
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes import common

from edgeq.errors import OutputError, TooLargeError
from edgeq.exporters.onnx.layout import image_inputs, take_channels_last
from edgeq.exporters.onnx.rewrite import Rewriter, Signedness
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.stored import is_narrow

Layout = Literal["NCHW", "NHWC"]
#: Bytes of constants in one file; the graph itself needs the rest of protobuf's 2 GiB.
_LARGEST = 2**31 - 2**24


def export(graph: Graph, plan: Plan | None, *, activations: Signedness = "uint8", layout: Layout = "NCHW") -> bytes:
    """The serialized model.

    Args:
        graph: the model.
        plan: None writes the float model as cleaned up.
        activations: ``uint8`` (x86 runs it fastest) or ``int8`` (ARM); the same real grid, shifted by 128.
        layout: of the inputs that are images: as the graph has them, or (``NHWC``) with the channels last.

    Raises:
        PlanError: the plan holds a format that ONNX cannot express.
        TooLargeError: the file would pass the 2 GiB that protobuf can hold.
    """
    return _serialized(_written(graph, plan, activations, layout))


def _serialized(model: ir.Model) -> bytes:
    size = constant_bytes(model)
    if size > _LARGEST:
        raise TooLargeError(
            f"the constants take {size >> 20:,} MiB, and one ONNX file holds less than 2,048; "
            "edgeq.exporters.onnx.save writes them beside the model"
        )
    # What lay in a file beside the source model becomes part of this one.
    ir.external_data.load_to_model(model)
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def save(
    graph: Graph,
    plan: Plan | None,
    path: Path,
    *,
    activations: Signedness = "uint8",
    layout: Layout = "NCHW",
    beside: bool | None = None,
) -> None:
    """Write the model to a file, its constants beside it (``model.onnx.data``) if they do not fit in one file.

    Args:
        graph: see :func:`export`, as plan, activations and layout.
        plan: likewise.
        path: of the file.
        activations: likewise.
        layout: likewise.
        beside: whether constants lie in a file of their own; None: from 2 GiB on.

    Raises:
        PlanError: see :func:`export`.
        OutputError: a file cannot be written, or would overwrite the constants that the model still reads.
    """
    model = _written(graph, plan, activations, layout)
    constants = path.with_name(f"{path.name}.data")
    read = {Path(t.path).resolve() for t in _tensors(model) if isinstance(t, ir.ExternalTensor)}
    if {path.resolve(), constants.resolve()} & read:
        raise OutputError(f"{constants}: the model's own constants lie there; choose another file")
    try:
        if constant_bytes(model) > _LARGEST if beside is None else beside:
            ir.save(model, path, external_data=constants.name)
        else:
            path.write_bytes(_serialized(model))
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; choose another place") from error


def notes(plan: Plan) -> tuple[str, ...]:
    """What became of formats that ONNX Runtime has no kernels for, for the reader of the report."""
    narrow = sorted({grid.bits for grid in plan.activations.values() if is_narrow(grid)})
    if not narrow:
        return ()
    widths = " and ".join(map(str, narrow))
    return (
        f"activations of {widths} bits lie in 8 and run on int8 kernels, a little slower than 8 bits: "
        "a Clip of its own limits each value to its grid",
    )


def _tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    return [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]


def constant_bytes(model: ir.Model) -> int:
    """What a model's constants take."""
    return sum(tensor.nbytes for tensor in _tensors(model) if tensor.dtype is not ir.DataType.STRING)


def _written(graph: Graph, plan: Plan | None, activations: Signedness, layout: Layout) -> ir.Model:
    model = graph.clone().model
    if plan is not None:
        Rewriter(Graph(model), plan, activations).write()
    if layout == "NHWC":
        take_channels_last(model, image_inputs(graph))
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    model.producer_name, model.producer_version = "edgeq", ""
    model.ir_version = min(max(model.ir_version, 8), 10)
    return model


__all__ = ["Layout", "Signedness", "constant_bytes", "export", "notes", "save"]
