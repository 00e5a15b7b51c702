"""A chain of Slices on different axes (as PyTorch's ``x[:, :, ::2, ::2]`` exports) is one Slice."""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, add_constant, name


def merge_slices(graph: Graph) -> Graph:
    """Merge a Slice into the Slice before it, if that has no other reader and all arguments are constant."""
    merged = graph.clone()
    for node in merged.nodes:
        before = node.inputs[0].producer() if node.op_type == "Slice" and node.inputs[0] is not None else None
        if before is None or before.op_type != "Slice" or len(before.outputs[0].uses()) != 1:
            continue
        first, second = _arguments(merged, before), _arguments(merged, node)
        if first is None or second is None or before.outputs[0].is_graph_output() or set(first[2]) & set(second[2]):
            continue
        combined = [np.concatenate([a, b]) for a, b in zip(first, second, strict=True)]
        node.replace_input_with(0, before.inputs[0])
        node.resize_inputs(5)
        for position, array in enumerate(combined, start=1):
            node.replace_input_with(position, add_constant(merged, f"{name(node)}_argument_{position}", array))
        merged.model.graph.remove(before, safe=True)
    return Graph(merged.model)


def _arguments(graph: Graph, node: ir.Node) -> list[np.ndarray] | None:
    """starts, ends, axes, steps as int64 arrays; None if one is computed or an axis is negative."""
    arrays = [graph.constant(value) for value in node.inputs[1:]]
    if len(arrays) < 2 or any(
        array is None for array, value in zip(arrays, node.inputs[1:], strict=True) if value is not None
    ):
        return None
    starts, ends = (np.asarray(array, np.int64) for array in arrays[:2])
    axes = np.asarray(arrays[2], np.int64) if len(arrays) > 2 and arrays[2] is not None else np.arange(len(starts))
    steps = np.asarray(arrays[3], np.int64) if len(arrays) > 3 and arrays[3] is not None else np.ones_like(starts)
    return None if (axes < 0).any() else [starts, ends, axes, steps]
