"""Refuse a model file that is damaged or hostile, each kind of damage with its own sentence, before it is used."""

import functools
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from edgeq.errors import ModelError, first_line


def check_sound(model: ir.Model, path: Path) -> None:
    """All that can be told from the file alone.

    Raises:
        ModelError: a name is no text, a node is not as the standard has it, external data is missing, too short or
            outside of the model's folder, or a constant's bytes do not fit its type and shape.
    """
    try:
        check_text(model, path)
        check_nodes(model, path)
        check_external_data(model, path)
        check_constants(model, path)
    except (TypeError, ValueError) as error:  # of onnx_ir, on types that are none
        raise ModelError(f"model {path}: a constant is damaged ({first_line(error)})") from error


def check_text(model: ir.Model, path: Path) -> None:
    """Refuse names that are not UTF-8, which onnx_ir hands on as bytes."""
    for graph in _graphs(model):
        names = [value.name for value in (*graph.inputs, *graph.outputs, *graph.initializers.values())]
        for node in graph:
            names += [node.name, node.op_type, node.domain, *node.attributes, *(value.name for value in node.outputs)]
        for name in names:
            if isinstance(name, bytes):
                raise ModelError(f"model {path}: the name {name!r} is not UTF-8 text; the file is damaged")


def check_external_data(model: ir.Model, path: Path) -> None:
    """Refuse external data that is outside of the model's folder, missing, or shorter than declared."""
    folder = path.resolve().parent
    for name, tensor in _tensors(model):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        try:
            where = (folder / tensor.location).resolve()
            present = where.is_file()
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {path}: tensor {name!r} refers to data by an impossible file name ({first_line(error)})"
            ) from error
        if Path(tensor.location).is_absolute() or not where.is_relative_to(folder):
            raise ModelError(
                f"model {path}: tensor {name!r} refers to data outside of the model's folder "
                f"({tensor.location}); place the data beside the model"
            )
        if not present:
            raise ModelError(f"model {path}: external data {tensor.location!r} of tensor {name!r} is missing")
        _check_extent(tensor, where.stat().st_size, f"model {path}: external data {tensor.location!r}")


def _check_extent(tensor: ir.ExternalTensor, size: int, label: str) -> None:
    name, offset, length = tensor.name, tensor.offset or 0, tensor.length
    if not tensor.shape.is_static() or any(isinstance(dim, int) and dim < 0 for dim in tensor.shape):
        raise ModelError(f"{label}: tensor {name!r} has the impossible shape {tensor.shape}")
    if offset < 0 or (length is not None and length < 0):
        raise ModelError(f"{label}: tensor {name!r} declares a negative offset or length")
    if length is not None and length > tensor.nbytes:
        raise ModelError(f"{label}: tensor {name!r} of {tensor.nbytes} bytes declares a length of {length}")
    needed = offset + (length or tensor.nbytes)
    if size < needed or (length is not None and length < tensor.nbytes):
        raise ModelError(f"{label} has {size} bytes, but tensor {name!r} needs {needed}; the file is truncated")


def check_nodes(model: ir.Model, path: Path) -> None:
    """Refuse nodes that the standard has otherwise: in the number of inputs and outputs, in the types of attributes."""
    for graph in _graphs(model):
        for node in graph:
            label = f"model {path}: node {node.name!r} ({node.op_type})"
            version = model.opset_imports.get(node.domain, 1)
            standard = _schema(node.domain, node.op_type, version)
            if standard is not None:
                for what, count, least, most in (
                    ("inputs", len(node.inputs), standard.min_input, standard.max_input),
                    ("outputs", len(node.outputs), standard.min_output, standard.max_output),
                ):
                    if not least <= count <= most:
                        raise ModelError(f"{label} has {count} {what}, where the standard has {least} to {most}")
            for attribute in node.attributes.values():
                _check_attribute(attribute, standard, label)


def _check_attribute(attribute: ir.Attr, standard: onnx.defs.OpSchema | None, label: str) -> None:
    if attribute.is_ref():
        return
    kind, name = attribute.type.name, attribute.name
    if kind == "UNDEFINED" or attribute.value is None:
        raise ModelError(f"{label}: attribute {name!r} has no value")
    if standard is not None and name in standard.attributes and standard.attributes[name].type.name != kind:
        asked = standard.attributes[name].type.name
        raise ModelError(f"{label}: attribute {name!r} is {kind}, where the standard has {asked}")


@functools.cache
def _schema(domain: str, op: str, version: int) -> onnx.defs.OpSchema | None:
    """What the standard says of an op; None if it is not in it."""
    if not 0 < version <= 2**31 - 1:
        return None
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


def check_constants(model: ir.Model, path: Path) -> None:
    """Refuse a constant in the file whose bytes do not fit its type and shape; external ones are not read."""
    for name, tensor in _tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            continue
        try:
            array = tensor.numpy()
        except Exception as error:  # NumPy's and onnx_ir's kinds differ by what is wrong
            raise ModelError(
                f"model {path}: constant {name!r} is damaged: its bytes do not fit its type and shape "
                f"({first_line(error)})"
            ) from error
        if array.shape != tuple(tensor.shape):
            raise ModelError(f"model {path}: constant {name!r} is damaged: it has the impossible shape {tensor.shape}")


def check_order(model: ir.Model, label: str) -> None:
    """Sort the nodes so that each stands after what it reads.

    Raises:
        ModelError: nodes depend on one another in a circle, read a value that nothing makes, or an output is made by
            nothing.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.inputs:
            if value is not None and not _is_made(value):
                raise ModelError(
                    f"model {label}: node {node.name!r} reads {value.name!r}, which nothing makes; export it anew"
                )
    for value in model.graph.outputs:
        if not _is_made(value):
            raise ModelError(f"model {label}: nothing makes the output {value.name!r}; export it anew")
    try:
        model.graph.sort()
    except ValueError as error:
        raise ModelError(f"model {label}: its nodes depend on one another in a circle; export it anew") from error


def _is_made(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()


def _tensors(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    """Every constant of the file by its name: initializers of all graphs, and tensors among attributes."""
    for graph in _graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield str(value.name), value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and attribute.value is not None:
                    yield f"{node.name}.{attribute.name}", attribute.as_tensor()
                elif attribute.type == ir.AttributeType.TENSORS and attribute.value is not None:
                    yield from ((f"{node.name}.{attribute.name}", each) for each in attribute.as_tensors())


def _graphs(model: ir.Model) -> tuple[ir.Graph, ...]:
    """The model's graph, its subgraphs, and those of its functions."""
    functions = [graph for f in model.functions.values() for graph in (f.graph, *f.subgraphs())]
    return (model.graph, *model.graph.subgraphs(), *functions)
