"""An op that the standard defines by others, and that no integer kernel takes whole, becomes what it is defined by.

Attention is two products and a softmax, which both runtimes compute on codes; ONNX Runtime and TFLite have no integer
form of it. The bodies are ONNX's own (``onnx.defs``). Functions that a runtime does take, as Gelu, stay as they are.
"""

import onnx
import onnx_ir as ir

from edgeq.errors import ModelError, first_line
from edgeq.graph.graph import Graph
from edgeq.graph.passes.canonicalize import canonicalize
from edgeq.graph.passes.fold_constants import fold_constants

_DOMAIN = "edgeq.expanded"
#: Ops whose bodies hold only what both exporters write.
EXPANDED = (
    "Attention", "CausalConvWithState", "CenterCropPad", "MeanVarianceNormalization", "RotaryEmbedding",
    "SwiGLU",
)  # fmt: skip


def expand_functions(graph: Graph) -> Graph:
    """Replace each such node by the standard's body of it.

    Raises:
        ModelError: ONNX cannot say what the body is, for the node's types contradict the standard.
    """
    if not any(node.op_type in EXPANDED and not node.domain for node in graph.nodes):
        return graph
    rewritten = graph.clone()
    for number, node in enumerate(rewritten.nodes):
        if node.op_type not in EXPANDED or node.domain or not _typed(node):
            continue
        try:
            function = _body(node, rewritten.opset, f"{node.op_type}_{number}")
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelError(
                f"node {node.name!r} ({node.op_type}): the standard gives it no body ({first_line(error)})"
            ) from error
        if function is None:
            continue
        rewritten.model.functions[function.identifier()] = function
        node.domain, node.op_type = function.domain, function.name
        rewritten.model.opset_imports.setdefault(_DOMAIN, 1)
    expanded = canonicalize(rewritten)
    expanded.model.opset_imports.pop(_DOMAIN, None)
    return fold_constants(expanded)


def _typed(node: ir.Node) -> bool:
    return all(value is None or (value.dtype is not None and value.shape is not None) for value in node.inputs)


def _body(node: ir.Node, opset: int, label: str) -> ir.Function | None:
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    for key, attribute in schema.attributes.items():
        # The body refers to every attribute by name; what the node leaves out has the standard's default.
        if key not in node.attributes and attribute.default_value.name:
            node.attributes[key] = ir.serde.deserialize_attribute(attribute.default_value)
    versions = [*schema.context_dependent_function_opset_versions, *schema.function_opset_versions]
    known = [version for version in versions if version <= opset]
    if not known:
        return None
    if schema.has_context_dependent_function:
        types = [
            b"" if value is None else ir.serde.serialize_value(value).type.SerializeToString() for value in node.inputs
        ]
        proto = ir.serde.serialize_node(node).SerializeToString()
        data = schema.get_context_dependent_function_with_opset_version(max(known), proto, types)
    else:
        data = schema.get_function_with_opset_version(max(known))
    body = onnx.FunctionProto.FromString(data)
    body.domain, body.name = _DOMAIN, label
    del body.output[len(node.outputs) :]
    made = {output for inner in body.node for output in inner.output}
    # What the node does not ask for, the body of some ops does not make.
    body.node.extend(onnx.helper.make_node("Identity", [body.output[0]], [o]) for o in body.output if o not in made)
    return ir.serde.deserialize_function(body)
