"""Inputs of an ONNX file with the channels last: one Transpose behind each, and the name stays the caller's."""

import onnx_ir as ir

from edgeq.graph.graph import Graph, name
from edgeq.graph.layout import channels_last, has_channels


def image_inputs(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Input name -> how its axes are permuted when its channels come last, for inputs that have channels."""
    return {
        name(value): channels_last(len(value.shape))
        for value in graph.inputs
        if value.shape is not None and len(value.shape) in (3, 4) and has_channels(graph, name(value))
    }


def take_channels_last(model: ir.Model, permutations: dict[str, tuple[int, ...]]) -> None:
    """Rewrite the inputs of a model in place, so that they are given in that order of axes."""
    graph = model.graph
    for position, value in enumerate(graph.inputs):
        order = permutations.get(name(value))
        if order is None or value.shape is None:
            continue
        given = ir.Value(name=value.name, type=value.type, shape=ir.Shape([value.shape[axis] for axis in order]))
        value.name = f"{given.name}_channels_first"
        back = [order.index(axis) for axis in range(len(order))]
        graph.inputs[position] = given
        transpose = ir.node("Transpose", [given], {"perm": back}, name=f"{given.name}_Transpose")
        transpose.outputs[0].name, transpose.outputs[0].type = value.name, value.type
        transpose.outputs[0].shape = value.shape
        ir.convenience.replace_all_uses_with(value, transpose.outputs[0])
        graph.insert_before(graph[0], transpose)


__all__ = ["image_inputs", "take_channels_last"]
