"""The model as ONNX: in memory where it is small, and where it is large on disk, its constants beside it."""

from pathlib import Path

from edgeq.devices.artifact import Artifact, read_artifact
from edgeq.errors import OutputError, TooLargeError
from edgeq.exporters import onnx as onnx_format
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.release.atomic import output_errors

#: Bytes of the float model from which its constants lie beside it: it is only compared with, one file is no aim.
_FLOAT_BESIDE = 2**28


def onnx_artifact(
    graph: Graph,
    plan: Plan | None,
    path: Path | None,
    *,
    activations: onnx_format.Signedness = "uint8",
    layout: onnx_format.Layout = "NCHW",
) -> Artifact:
    """The model as a device gets it.

    Args:
        graph: the model.
        plan: None writes the float model.
        path: where it may lie; None keeps it in memory, whatever its size.
        activations: see :func:`edgeq.exporters.onnx.export`.
        layout: likewise.

    Raises:
        TooLargeError: it does not fit into one file, and there is no path.
        OutputError: a file cannot be written.
    """
    beside = plan is None and path is not None and onnx_format.constant_bytes(graph.model) > _FLOAT_BESIDE
    if not beside:
        try:
            return Artifact(onnx_format.export(graph, plan, activations=activations, layout=layout))
        except TooLargeError:
            if path is None:
                raise
    assert path is not None
    try:
        onnx_format.save(graph, plan, path, activations=activations, layout=layout, beside=True)
    except OutputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        with output_errors(path.parent.parent):  # the folder itself is only there while the run lasts
            raise error.__cause__ from None
    return read_artifact(path)
