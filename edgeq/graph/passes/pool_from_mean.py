"""A mean over all spatial axes is a GlobalAveragePool: the form that both runtimes have an integer kernel for."""

import onnx_ir as ir

from edgeq.graph.graph import Graph


def pool_from_mean(graph: Graph) -> Graph:
    """Rewrite ReduceMean over axes 2.. of a feature map; without keepdims a Flatten follows."""
    rewritten = graph.clone()
    for node in rewritten.nodes:
        if node.op_type == "ReduceMean" and not node.domain and _is_spatial(rewritten, node):
            _rewrite(rewritten, node)
    return Graph(rewritten.model)


def _is_spatial(graph: Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    if source is None or source.shape is None or len(source.shape) not in (4, 5):
        return False
    axes = node.attributes.get_ints("axes", None)
    if axes is None:
        constant = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if constant is None:
            return False
        axes = constant.tolist()
    rank = len(source.shape)
    return sorted(axis % rank for axis in axes) == list(range(2, rank))


def _rewrite(graph: Graph, node: ir.Node) -> None:
    keep = node.attributes.get_int("keepdims", 1) == 1
    pool = ir.node("GlobalAveragePool", [node.inputs[0]], name=node.name, metadata_props=dict(node.metadata_props))
    new, last = [pool], pool
    if not keep:
        last = ir.node("Flatten", pool.outputs, {"axis": 1}, metadata_props=dict(node.metadata_props))
        pool.outputs[0].name = f"{node.outputs[0].name}_pooled"
        source = node.inputs[0]
        assert source is not None
        assert source.shape is not None
        pool.outputs[0].type = source.type
        pool.outputs[0].shape = ir.Shape([*source.shape[:2], *([1] * (len(source.shape) - 2))])
        last.name = f"{node.name}_flatten"
        new.append(last)
    ir.convenience.replace_nodes_and_values(graph.model.graph, node, [node], new, node.outputs, last.outputs)
