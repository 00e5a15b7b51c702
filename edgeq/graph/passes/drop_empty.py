"""Parts without elements, which exporters and the bodies of functions cut off and join again, are left out.

Concat(x, empty) = x        Split(x) = (x, empty) = x
"""

import onnx_ir as ir

from edgeq.graph.graph import Graph


def drop_empty(graph: Graph) -> Graph:
    """Rewrite such Concats and Splits; a part that something else still reads stays."""
    rewritten = graph.clone()
    for node in rewritten.nodes:
        if node.op_type == "Concat" and not node.domain:
            _shorten(rewritten, node)
    for node in rewritten.nodes:
        if node.op_type == "Split" and not node.domain:
            _shorten_split(rewritten, node)
    return Graph(rewritten.model)


def _shorten(graph: Graph, node: ir.Node) -> None:
    kept = [value for value in node.inputs if value is not None and not _empty(value)]
    if len(kept) == 1:
        pass_on(graph, node, kept[0], node.outputs[0])
    elif kept and len(kept) < len(node.inputs):
        made = ir.node("Concat", kept, {"axis": node.attributes["axis"].as_int()}, name=node.name)
        ir.convenience.replace_nodes_and_values(
            graph.model.graph, node, [node], [made], [node.outputs[0]], [made.outputs[0]]
        )


def _shorten_split(graph: Graph, node: ir.Node) -> None:
    whole = [value for value in node.outputs if not _empty(value)]
    read = any(value.uses() or value.is_graph_output() for value in node.outputs if _empty(value))
    if len(whole) == 1 and len(node.outputs) > 1 and not read and node.inputs[0] is not None:
        pass_on(graph, node, node.inputs[0], whole[0])


def pass_on(graph: Graph, node: ir.Node, kept: ir.Value, result: ir.Value) -> None:
    """Let what a node reads stand for what it makes; an Identity is left where the model's own ends need one."""
    if not result.is_graph_output():
        ir.convenience.replace_all_uses_with(result, kept)
        graph.model.graph.remove(node, safe=True)
        return
    made = ir.node("Identity", [kept], name=node.name, metadata_props=dict(node.metadata_props))
    ir.convenience.replace_nodes_and_values(graph.model.graph, node, [node], [made], [result], made.outputs)


def _empty(value: ir.Value) -> bool:
    return value.shape is not None and any(dim == 0 for dim in value.shape)
