"""The graph of a model: an ``onnx_ir.Model`` in canonical form, with look-ups by name.

Canonical form (``edgeq.graph.passes`` makes it, :func:`check` holds it): one graph without functions or subgraphs,
constants are initializers, every node and value has a unique name, no dead nodes, topological order. A graph is never
changed in place: a pass works on a clone and returns a new one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeq.errors import ModelError

#: Where torch.onnx.export keeps the module path of a node: a list literal, outermost first, the op last.
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
#: Where edgeq keeps it once the exporter's own metadata (which holds local file paths) is stripped.
MODULE_PATH = "edgeq.module"


@dataclass(frozen=True, eq=False)
class Graph:
    """A model in canonical form."""

    model: ir.Model

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes in topological order."""
        return tuple(self.model.graph)

    @cached_property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The graph's inputs, without initializers."""
        return tuple(v for v in self.model.graph.inputs if v.name not in self.model.graph.initializers)

    @property
    def outputs(self) -> Sequence[ir.Value]:
        """The graph's outputs."""
        return self.model.graph.outputs

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.model.opset_imports[""]

    @cached_property
    def _nodes_by_name(self) -> Mapping[str, ir.Node]:
        return {name(node): node for node in self.nodes}

    @cached_property
    def _values_by_name(self) -> Mapping[str, ir.Value]:
        return {name(value): value for value in self._all_values()}

    def _all_values(self) -> Iterator[ir.Value]:
        yield from self.inputs
        yield from self.model.graph.initializers.values()
        for node in self.nodes:
            yield from (value for value in node.outputs if value.name)

    def node(self, node_name: str) -> ir.Node:
        """The node of that name; KeyError if there is none."""
        return self._nodes_by_name[node_name]

    def value(self, value_name: str) -> ir.Value:
        """The value of that name; KeyError if there is none."""
        return self._values_by_name[value_name]

    def constant(self, value: ir.Value | str | None) -> npt.NDArray[Any] | None:
        """The array of an initializer, or None if the value is not constant (or absent)."""
        if isinstance(value, str):
            value = self.value(value)
        if value is None or value.const_value is None:
            return None
        return value.const_value.numpy()

    def consumers(self, value_name: str) -> tuple[ir.Node, ...]:
        """The nodes that read a value, each once, in topological order."""
        return tuple(dict.fromkeys(node for node, _ in self.value(value_name).uses()))

    def is_output(self, value_name: str) -> bool:
        """Whether a value is an output of the graph."""
        return any(value.name == value_name for value in self.outputs)

    def clone(self) -> "Graph":
        """An independent copy of the structure; the tensors' data is shared."""
        return Graph(self.model.clone())


def name(item: ir.Node | ir.Value) -> str:
    """The name of a node or value of a canonical graph."""
    if not item.name:
        raise ModelError(f"{item!r} has no name; the graph is not in canonical form")
    return item.name


def add_constant(graph: Graph, value_name: str, array: npt.NDArray[Any]) -> ir.Value:
    """A new initializer, of that name if no other has it; for passes, which work on a clone of their own."""
    while value_name in graph.model.graph.initializers:
        value_name += "_"
    tensor = ir.tensor(array, name=value_name)
    value = ir.Value(name=value_name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.model.graph.register_initializer(value)
    return value


def attributes(node: ir.Node) -> dict[str, Any]:
    """A node's attributes as Python values: numbers, strings, lists of them, or NumPy arrays for tensors."""
    return {key: _python_value(attribute) for key, attribute in node.attributes.items()}


def _python_value(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().numpy()
    if attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return list(attribute.value)
    return attribute.value


def module_path(node: ir.Node) -> str:
    """Path of the PyTorch module that a node came from (``layer1.0.conv1``), or "" for other sources."""
    return node.metadata_props.get(MODULE_PATH, "")


def parameters(graph: Graph) -> int:
    """How many numbers the floating-point initializers hold."""
    return sum(
        int(np.prod(value.const_value.shape.numpy()))
        for value in graph.model.graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype.is_floating_point()
    )
