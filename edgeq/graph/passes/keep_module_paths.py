"""Every node keeps the path of its PyTorch module; other metadata goes: exporters write local file paths there."""

import ast

import onnx_ir as ir

from edgeq.graph.graph import MODULE_PATH, NAME_SCOPES, Graph


def keep_module_paths(graph: Graph) -> Graph:
    """Replace the exporter's metadata and documentation strings by the module path alone."""
    model = graph.clone().model
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        path = node.metadata_props.get(MODULE_PATH) or _path(node.metadata_props.get(NAME_SCOPES, ""))
        node.metadata_props.clear()
        node.doc_string = None
        if path:
            node.metadata_props[MODULE_PATH] = path
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for holder in (model, model.graph):
        holder.metadata_props.clear()
        holder.doc_string = None
    return Graph(model)


def _path(scopes: str) -> str:
    """``layer1.0.conv1`` of "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_1']": the last is the op itself."""
    try:
        parts = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return ""
    if not (isinstance(parts, list) and all(isinstance(part, str) for part in parts)):
        return ""
    return next((part for part in reversed(parts[:-1]) if part), "")
