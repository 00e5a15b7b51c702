"""A Reshape or Expand whose target is computed from the batch size alone gets a constant target.

Exporters write ``Reshape(x, Concat(Shape(x)[0], 128, 8))``; with one unknown dimension that is
``Reshape(x, [-1, 128, 8])``, and the chain that computed it is dead. TFLite files and integer kernels want it so.
"""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, add_constant, name


def static_shapes(graph: Graph) -> Graph:
    """Rewrite where the inferred output shape says enough; other nodes stay."""
    rewritten = graph.clone()
    for node in rewritten.nodes:
        if node.domain or node.op_type not in ("Reshape", "Expand") or len(node.inputs) < 2:
            continue
        if node.inputs[1] is None or rewritten.constant(node.inputs[1]) is not None:
            continue
        target = _reshape_target(node) if node.op_type == "Reshape" else _expand_target(node)
        if target is not None:
            node.replace_input_with(1, add_constant(rewritten, f"{name(node)}_target", np.array(target, np.int64)))
    return Graph(rewritten.model)


def _reshape_target(node: ir.Node) -> list[int] | None:
    shape = node.outputs[0].shape
    if shape is None:
        return None
    dims = [dim if isinstance(dim, int) else -1 for dim in shape]
    return dims if dims.count(-1) <= 1 and 0 not in dims else None


def _expand_target(node: ir.Node) -> list[int] | None:
    source, shape = node.inputs[0], node.outputs[0].shape
    if source is None or source.shape is None or shape is None or len(source.shape) > len(shape):
        return None
    before = [1] * (len(shape) - len(source.shape)) + list(source.shape)
    target = []
    for old, new in zip(before, shape, strict=True):
        if isinstance(new, int):
            target.append(new)
        elif isinstance(old, ir.SymbolicDim) and old.value is not None and old.value == new.value:
            target.append(1)  # the dimension is there already: expanding by one keeps it
        else:
            return None
    return target
