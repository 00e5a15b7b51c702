"""The model as ONNX: in memory where it is small, and where it is large on disk, its constants beside it."""

from pathlib import Path

from edgeq.devices.artifact import Artifact, read_artifact
from edgeq.exporters import onnx as onnx_format
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan

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
    if path is None:
        return Artifact(onnx_format.export(graph, plan, activations=activations, layout=layout))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = True if plan is None and onnx_format.constant_bytes(graph.model) > _FLOAT_BESIDE else None
    onnx_format.save(graph, plan, path, activations=activations, layout=layout, beside=beside)
    return read_artifact(path)
