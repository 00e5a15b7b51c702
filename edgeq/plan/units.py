"""Group the nodes of a graph into units: what a runtime executes as one op."""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, module_path, name
from edgeq.plan.ops import ELEMENTWISE, FUSED_ACTIVATIONS, FUSES_ACTIVATION, WEIGHTED
from edgeq.plan.plan import Unit


def group(graph: Graph) -> tuple[Unit, ...]:
    """The units of a graph in topological order, all still float and without a reason."""
    taken: set[str] = set()
    units: list[Unit] = []
    for node in graph.nodes:
        if name(node) in taken:
            continue
        unit = _unit(graph, node)
        taken.update(unit.nodes)
        units.append(unit)
    # A fused activation or bias is read no earlier than it stands: order by the last node of each unit.
    position = {name(node): index for index, node in enumerate(graph.nodes)}
    return tuple(sorted(units, key=lambda unit: position[unit.nodes[-1]]))


def _unit(graph: Graph, anchor: ir.Node) -> Unit:
    nodes = [anchor]
    weight = _weight(graph, anchor)
    bias = None
    if weight is not None:
        bias = anchor.inputs[2] if len(anchor.inputs) > 2 else None
        added = _bias_add(graph, anchor) if anchor.op_type == "MatMul" else None
        if added is not None:
            nodes.append(added[0])
            bias = added[1]
    clamp = None
    if anchor.op_type in FUSES_ACTIVATION and not anchor.domain:
        follower = _only_reader(nodes[-1])
        if follower is not None and follower.op_type in FUSED_ACTIVATIONS and clamp_of(graph, follower) is not None:
            nodes.append(follower)
            clamp = clamp_of(graph, follower)
    elif anchor.op_type in FUSED_ACTIVATIONS and not anchor.domain:
        clamp = clamp_of(graph, anchor)
    return Unit(
        name=name(anchor),
        op=f"{anchor.domain}::{anchor.op_type}" if anchor.domain else anchor.op_type,
        nodes=tuple(name(node) for node in nodes),
        inputs=_tensors(graph, anchor, weight is not None),
        outputs=tuple(name(value) for value in nodes[-1].outputs if value.name),
        weight=None if weight is None else name(weight),
        bias=None if bias is None else name(bias),
        clamp=clamp,
        module=_module(anchor, weight),
    )


def _module(anchor: ir.Node, weight: ir.Value | None) -> str:
    # An exporter that folded the batch norm reports the batch norm's path; the weight still has its own name.
    if weight is not None and weight.name and weight.name.endswith(".weight"):
        return weight.name.removesuffix(".weight")
    return module_path(anchor)


def _weight(graph: Graph, node: ir.Node) -> ir.Value | None:
    """The constant weight of a weighted op whose form the integer kernels have, else None."""
    if node.op_type not in WEIGHTED or node.domain or len(node.inputs) < 2:
        return None
    if graph.constant(node.inputs[0]) is not None or graph.constant(node.inputs[1]) is None:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and graph.constant(node.inputs[2]) is None:
        return None
    if node.op_type == "Gemm" and not _plain_gemm(graph, node):
        return None
    weight = graph.constant(node.inputs[1])
    if node.op_type == "MatMul" and weight is not None and weight.ndim != 2:
        return None
    return node.inputs[1]


def _plain_gemm(graph: Graph, node: ir.Node) -> bool:
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return (
        node.attributes.get_int("transA", 0) == 0
        and node.attributes.get_float("alpha", 1.0) == 1.0
        and (bias is None or node.attributes.get_float("beta", 1.0) == 1.0)
        and (bias is None or bias.ndim == 1 or bias.shape[0] == 1)
    )


def _bias_add(graph: Graph, node: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    follower = _only_reader(node)
    if follower is None or follower.op_type != "Add" or follower.domain:
        return None
    other = next((value for value in follower.inputs if value is not node.outputs[0]), None)
    array = graph.constant(other)
    weight = graph.constant(node.inputs[1])
    if other is None or array is None or weight is None or array.size != weight.shape[-1] or array.ndim > 1:
        return None
    return follower, other


def _only_reader(node: ir.Node) -> ir.Node | None:
    """The one node that reads a node's one output, if that output is not also the graph's."""
    if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    uses = tuple(node.outputs[0].uses())
    return uses[0].node if len(uses) == 1 else None


def clamp_of(graph: Graph, node: ir.Node) -> tuple[float, float] | None:
    """The (low, high) of a Relu or of a Clip with constant bounds; None if a bound is computed."""
    if node.op_type == "Relu":
        return (0.0, np.inf)
    bounds = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            bounds.append(default)
            continue
        array = graph.constant(value)
        if array is None or array.size != 1:
            return None
        bounds.append(float(array.reshape(())))
    return bounds[0], bounds[1]


def _tensors(graph: Graph, node: ir.Node, weighted: bool) -> tuple[str, ...]:
    """The inputs that are data: floating-point tensors, and for elementwise ops their constant operands too."""
    if weighted:
        return (name(node.inputs[0]),) if node.inputs[0] is not None else ()
    found = []
    floating = [
        value is not None and value.dtype is not None and value.dtype.is_floating_point() for value in node.inputs
    ]
    for value, is_float in zip(node.inputs, floating, strict=True):
        # Beside a tensor of real numbers, one of integers is a shape or an index: a parameter.
        if value is None or (any(floating) and not is_float and value.dtype is not None):
            continue
        constant = graph.constant(value) is not None
        if not constant or (node.op_type in ELEMENTWISE and not node.domain):
            found.append(name(value))
    return tuple(found)
