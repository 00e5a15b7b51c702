"""A graph as a ``torch.fx.GraphModule``: differentiable, on any device, one call per ONNX node.

Initializers are buffers of the module. Every fx node carries ``meta["value"]``, the ONNX value it computes, and
``meta["onnx"]``, the ONNX node's name; so observers, the simulation and the diagnostic find their place by name.
"""

import inspect
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

from edgeq.errors import EdgeqError, ModelError, UnsupportedOpError, first_line
from edgeq.graph.graph import Graph, attributes, name
from edgeq.graph.ops import OPS, REFUSED, Op


def to_torch(graph: Graph) -> fx.GraphModule:
    """The graph as a module: tensors in the order of ``graph.inputs`` in; one tensor, or a tuple of them, out.

    Raises:
        UnsupportedOpError: a node's op is not in the table; the message names every such op and node.
    """
    check_supported(graph)
    root, fx_graph = nn.Module(), fx.Graph()
    built: dict[ir.Value, fx.Node] = {}
    for value in graph.inputs:
        built[value] = fx_graph.placeholder(f"input_{len(built)}")
        built[value].meta["value"] = name(value)
    constants = _Constants(graph, root, fx_graph, built)
    for node in graph.nodes:
        _add_node(node, graph.opset, fx_graph, built, constants)
    results = tuple(built[value] if value in built else constants.tensor(value) for value in graph.outputs)
    fx_graph.output(results[0] if len(results) == 1 else results)
    return fx.GraphModule(root, fx_graph)


def check_supported(graph: Graph) -> None:
    """Raise UnsupportedOpError if the table of ops lacks one that the graph holds."""
    missing: dict[tuple[str, str], list[str]] = {}
    for node in graph.nodes:
        if (node.domain, node.op_type) not in OPS:
            missing.setdefault((node.domain, node.op_type), []).append(name(node))
    if missing:
        listing = "; ".join(_refusal(key, names) for key, names in missing.items())
        raise UnsupportedOpError(f"edgeq does not execute {listing} (docs/ops.md lists what it does)")


def _refusal(key: tuple[str, str], names: list[str]) -> str:
    domain, op = key
    label = f"{domain}::{op}" if domain else op
    nodes = f"node {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return f"{label} ({nodes}): {REFUSED.get(key, 'replace the op, or cut the model before it')}"


class _Constants:
    """Initializers as buffers of the module, or as Python numbers where an op wants them static."""

    def __init__(self, graph: Graph, root: nn.Module, fx_graph: fx.Graph, built: dict[ir.Value, fx.Node]) -> None:
        self.graph, self.root, self.fx_graph, self.built = graph, root, fx_graph, built
        self.count = 0

    def tensor(self, value: ir.Value) -> fx.Node:
        if value not in self.built:
            array = self.graph.constant(value)
            if array is None:
                raise ModelError(f"value {value.name!r} is neither computed, nor an input, nor a constant")
            self.built[value] = node = self.buffer(array)
            node.meta["value"] = name(value)
        return self.built[value]

    def buffer(self, array: np.ndarray[Any, Any]) -> fx.Node:
        self.count += 1
        attribute = f"constant_{self.count}"
        self.root.register_buffer(attribute, as_tensor(array))
        return self.fx_graph.get_attr(attribute)

    def static(self, value: ir.Value) -> Any:
        array = self.graph.constant(value)
        return self.built[value] if array is None else array.tolist()


#: Bytes from which a constant that cannot be written, as of a mapped file, is used where it lies.
_SHARED = 1 << 24


def as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """A tensor of an initializer's array; types below a byte and 8-bit floats (ml_dtypes) are widened."""
    if array.dtype.kind in "OUS":
        raise UnsupportedOpError("the model holds a string constant; edgeq computes on numbers only")
    if array.dtype.name in ("int4", "int2"):
        array = array.astype(np.int8)
    elif array.dtype.name in ("uint4", "uint2"):
        array = array.astype(np.uint8)
    elif array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array, copy=True, order="C").view(np.int16)).view(torch.bfloat16)
    elif array.dtype.kind == "V" or array.dtype.name.startswith(("float8", "float4")):
        array = array.astype(np.float32)
    if array.nbytes >= _SHARED and array.flags.c_contiguous and not array.flags.writeable:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of memory that must not be written: it is not
            return torch.from_numpy(array)
    return torch.from_numpy(np.array(array, copy=True, order="C"))


def _add_node(
    node: ir.Node, opset: int, fx_graph: fx.Graph, built: dict[ir.Value, fx.Node], constants: _Constants
) -> None:
    op = OPS[node.domain, node.op_type]
    args: list[Any] = []
    for position, value in enumerate(node.inputs):
        if value is None:
            args.append(None)
        elif value in built and value.const_value is None:
            args.append(built[value])
        elif position in op.static:
            args.append(constants.static(value))
        else:
            args.append(constants.tensor(value))
    keywords = context(op.function, node, opset) | attributes(node)
    for key, attribute in keywords.items():
        if isinstance(attribute, np.ndarray):
            keywords[key] = constants.buffer(attribute)
        elif not _is_plain(attribute):
            # Not only unknown: fx writes what it does not know into the source that it compiles.
            raise UnsupportedOpError(
                f"node {node.name!r} ({node.op_type}): attribute {key!r} is neither a number, a text nor a tensor"
            )
    try:
        inspect.signature(op.function).bind(*args, **keywords)
    except TypeError as error:
        raise UnsupportedOpError(
            f"node {node.name!r} ({node.op_type}, opset {opset}): {error}; "
            "convert the model to opset 13 or newer (onnx.version_converter)"
        ) from None
    call = fx_graph.call_function(op.function, tuple(args), keywords)
    call.meta["onnx"] = name(node)
    outputs = list(node.outputs)
    if len(outputs) == 1:
        built[outputs[0]] = call
        call.meta["value"] = name(outputs[0])
        return
    for index, value in enumerate(outputs):
        if value.name:
            built[value] = fx_graph.call_function(operator.getitem, (call, index))
            built[value].meta |= {"value": name(value), "onnx": name(node)}


def _is_plain(attribute: Any) -> bool:
    each = attribute if isinstance(attribute, list | tuple) else [attribute]
    return all(value is None or type(value) in (int, float, str, bool) for value in each)


def context(function: Callable[..., Any], node: ir.Node, opset: int) -> dict[str, Any]:
    # Ops whose meaning changed between opsets, or that depend on how many outputs are asked for, declare it; so do
    # ops that must tell apart types which are held alike (int4 and int8).
    wanted = _parameters(function)
    types = tuple(0 if value is None or value.dtype is None else int(value.dtype) for value in node.inputs)
    offered = {"opset": opset, "outputs": len(node.outputs), "input_types": types}
    return {key: value for key, value in offered.items() if key in wanted}


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def named_outputs(graph: Graph, result: torch.Tensor | tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """What a module of this graph returned, by output name."""
    results = result if isinstance(result, tuple) else (result,)
    return dict(zip((name(value) for value in graph.outputs), results, strict=True))


def iterate_values(
    module: fx.GraphModule, inputs: tuple[torch.Tensor, ...], wanted: frozenset[str] | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Run the module and yield (value name, tensor) as each value is computed; memory of dead values is released.

    Args:
        module: from :func:`to_torch`.
        inputs: tensors in the order of the graph's inputs.
        wanted: yield these only (inputs included); None yields all.
    """
    last_use = _last_uses(module.graph)
    environment: dict[fx.Node, Any] = {}
    feed = iter(inputs)
    for node in module.graph.nodes:
        if node.op == "output":
            return
        environment[node] = _evaluate(module, node, environment, feed)
        value = node.meta.get("value")
        if value is not None and isinstance(environment[node], torch.Tensor) and (wanted is None or value in wanted):
            yield value, environment[node]
        for dead in last_use.get(node, ()):
            del environment[dead]


def largest_value(graph: Graph, module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> int:
    """Bytes of the largest value that these inputs lead to, at least 1; what is constant is not counted.

    Args:
        graph: the model.
        module: from :func:`to_torch`, or a simulation's.
        inputs: tensors in the order of the graph's inputs.
    """
    with torch.no_grad():
        values = iterate_values(module, inputs)
        return max(1, *(t.numel() * t.element_size() for value, t in values if graph.constant(value) is None))


def _evaluate(
    module: fx.GraphModule, node: fx.Node, environment: Mapping[fx.Node, Any], feed: Iterator[torch.Tensor]
) -> Any:
    if node.op == "placeholder":
        return next(feed)
    if node.op == "get_attr":
        return getattr(module, str(node.target))
    args = fx.node.map_arg(node.args, lambda n: environment[n])
    keywords = fx.node.map_arg(node.kwargs, lambda n: environment[n])
    if node.op == "call_module":
        return module.get_submodule(str(node.target))(*args, **keywords)
    assert callable(node.target)
    try:
        return node.target(*args, **keywords)
    except EdgeqError:
        raise
    except Exception as error:  # PyTorch raises many kinds for operands that do not fit one another
        raise ModelError(
            f"node {node.meta.get('onnx', node.name)!r} cannot be computed ({first_line(error)}): its inputs do not "
            "fit one another; does onnxruntime run the model on such samples?"
        ) from error


def _last_uses(fx_graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    user_of: dict[fx.Node, fx.Node] = {}
    for node in fx_graph.nodes:
        for used in node.all_input_nodes:
            user_of[used] = node
    dead_after: dict[fx.Node, list[fx.Node]] = {}
    for used, user in user_of.items():
        dead_after.setdefault(user, []).append(used)
    return dead_after


def shapes(graph: Graph, module: fx.GraphModule, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """The concrete shape of every computed value, from one run on zeros with that batch size."""
    inputs = tuple(zeros_for(value, batch) for value in graph.inputs)
    with torch.no_grad():
        return {value: tuple(tensor.shape) for value, tensor in iterate_values(module, inputs)}


def zeros_for(value: ir.Value, batch: int = 1) -> torch.Tensor:
    """Zeros of an input's type and shape; the one unknown dimension, if first, takes the batch size.

    Raises:
        ModelError: a dimension other than the first is unknown.
    """
    if value.shape is None or value.dtype is None:
        raise ModelError(f"input {value.name!r} has no declared shape; fix it with --shape {value.name}=1,3,224,224")
    dims = [d if isinstance(d, int) else None for d in value.shape]
    if None in dims[1:]:
        raise ModelError(
            f"input {value.name!r} has unknown dimensions {value.shape}; fix them with --shape, "
            f"for example --shape {value.name}={','.join('1' if d is None else str(d) for d in dims)}"
        )
    return torch.zeros(
        [batch if d is None else d for d in dims], dtype=as_tensor(np.zeros(0, value.dtype.numpy())).dtype
    )


__all__ = ["Op", "as_tensor", "check_supported", "iterate_values", "named_outputs", "shapes", "to_torch", "zeros_for"]
