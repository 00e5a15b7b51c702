"""Features that student and teacher are compared at: the values that all of the quantization error passes through.

The divergence of the outputs says little about a batch: ten numbers a sample. A value inside of the network that every
path from a quantized weight to the outputs goes through (the end of a residual block, the residual stream of a
transformer) holds thousands, and where it equals the float model's, so do the outputs. Such values cut the graph; they
are found by one sweep in topological order over the values that depend on a quantized weight: a cut is where only one
of them is still to be read.
"""

import torch
from torch import fx
from torch.nn import functional

from edgeq.graph.graph import Graph, name
from edgeq.plan.ops import SAME_GRID
from edgeq.plan.plan import Plan
from edgeq.recovery.logits import Outputs

#: No more than this many cuts are compared, evenly spread: each costs a pass over a tensor.
MOST = 12


def cuts(graph: Graph, plan: Plan) -> tuple[str, ...]:
    """The values that cut the graph, in order; outputs, and copies of other cuts (pool, reshape), left out."""
    outputs = {name(value) for value in graph.outputs}
    makers = {value: unit for unit in plan.units for value in unit.outputs}
    last_reader = {
        name(value): name(node) for node in graph.nodes for value in node.inputs if value is not None and value.name
    }
    weighted = {unit.name for unit in plan.units if unit.weight is not None and unit.weight in plan.weights}
    live: set[str] = set()
    found = []
    for node in graph.nodes:
        read = {name(value) for value in node.inputs if value is not None}
        depends = name(node) in weighted or bool(read & live)
        live -= {value for value in read & live if last_reader[value] == name(node) and value not in outputs}
        if depends:
            live |= {name(v) for v in node.outputs if v.name and (v.name in last_reader or v.name in outputs)}
        only = next(iter(live)) if len(live) == 1 else ""
        if only in makers and only not in outputs and only not in found and makers[only].op not in SAME_GRID:
            found.append(only)
    if len(found) <= MOST:
        return tuple(found)
    return tuple(found[round((i + 1) * len(found) / MOST) - 1] for i in range(MOST))


def exposing(module: fx.GraphModule, values: tuple[str, ...]) -> fx.GraphModule:
    """A module that shares everything with the given one and returns (outputs ..., values ...)."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(module.graph, copies)
    nodes = {node.meta["value"]: copies[node] for node in copies if "value" in node.meta}
    outputs = result if isinstance(result, tuple) else (result,)
    graph.output((*outputs, *(nodes[value] for value in values)))
    return fx.GraphModule(module, graph)


def distance(student: Outputs, teacher: Outputs, variances: tuple[float, ...]) -> torch.Tensor:
    """Mean over the features of the squared error relative to the teacher's variance, ()."""
    pairs = zip(student, teacher, variances, strict=True)
    return torch.stack([functional.mse_loss(s, t) / variance for s, t, variance in pairs]).mean()
