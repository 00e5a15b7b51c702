"""What is known of every value before writing: shape and type at batch 1, the array where it follows from shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.graph.execute import iterate_values, to_torch, zeros_for
from edgeq.graph.graph import Graph, name

#: Ops whose output depends on the shape of their input alone.
_SHAPE_OPS = frozenset({"Shape", "Size"})
#: Ops that are not functions of their inputs.
_RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


@dataclass(frozen=True, eq=False)
class Values:
    """Facts about the values of a graph with every shape fixed (an unknown first dimension is 1)."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    static: Mapping[str, npt.NDArray[Any]]


def examine(graph: Graph) -> Values:
    """Run the graph once on zeros; values that depend on constants and shapes alone are kept as arrays."""
    names = _static_names(graph)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    static: dict[str, npt.NDArray[Any]] = {}
    inputs = tuple(zeros_for(value) for value in graph.inputs)
    with torch.no_grad():
        for key, tensor in iterate_values(to_torch(graph), inputs):
            shapes[key] = tuple(tensor.shape)
            dtypes[key] = str(tensor.dtype).removeprefix("torch.")
            if key in names:
                static[key] = np.asarray(tensor.detach().cpu().numpy()).copy()
    for value in graph.model.graph.initializers.values():
        array = graph.constant(value)
        if array is not None:
            shapes[name(value)], dtypes[name(value)] = tuple(array.shape), array.dtype.name
    return Values(shapes, dtypes, static)


def _static_names(graph: Graph) -> frozenset[str]:
    known = {name(value) for value in graph.model.graph.initializers.values()}
    computed: set[str] = set()
    for node in graph.nodes:
        inputs = [value for value in node.inputs if value is not None]
        from_shapes = node.op_type in _SHAPE_OPS and not node.domain
        if from_shapes or (node.op_type not in _RANDOM_OPS and all(name(value) in known for value in inputs)):
            outputs = {name(value) for value in node.outputs if value.name}
            known |= outputs
            computed |= outputs
    return frozenset(computed)
