"""Damage to an ONNX file: of its bytes, and of its fields, where a byte would seldom hit."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import AttributeProto, TensorProto, helper

from .seeds import Seed

_SIZES = (
    -(2**63),
    -(2**31),
    -2,
    -1,
    0,
    1,
    2,
    3,
    5,
    7,
    64,
    1000,
    2**20,
    2**31 - 1,
    2**31,
    2**33,
    2**40,
    2**62,
    2**63 - 1,
)
_NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, 3e38, -3e38, 1.0)
_NAMES = (
    "",
    "x",
    "y",
    "c",
    "../../out",
    "/etc/x",
    "a\nb",
    "[red]",
    "ü" * 40,
    "n" * 5000,
    "%s%n",
    "a b",
    "::",
    "x::quantized",
)
_PATHS = (
    "", ".", "..", "../weights.bin", "/etc/hostname", "weights.bin", "weights.bin/x", "a\0b", "w" * 5000, "~",
    "sub/../../x", "model.onnx",
)  # fmt: skip
_OPS = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}))

Model = onnx.ModelProto
Mutation = Callable[[Model, random.Random], None]


def _tensors(model: Model) -> list[TensorProto]:
    found = list(model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += list(attribute.g.initializer)
    return found


def _values(model: Model) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output, *model.graph.value_info]


def _value_names(model: Model) -> list[str]:
    made = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return sorted({*made, *(value.name for value in _values(model)), *(t.name for t in model.graph.initializer)}) or [
        "x"
    ]


def _pick(rng: random.Random, items: Sequence[Any]) -> Any:
    return rng.choice(items) if items else None


def tensor_dims(model: Model, rng: random.Random) -> None:
    tensor = _pick(rng, _tensors(model))
    if tensor is None:
        return
    dims = list(tensor.dims)
    change = rng.randrange(4)
    if change == 0 or not dims:
        dims.insert(rng.randrange(len(dims) + 1), rng.choice(_SIZES))
    elif change == 1:
        del dims[rng.randrange(len(dims))]
    elif change == 2:
        rng.shuffle(dims)
    else:
        dims[rng.randrange(len(dims))] = rng.choice(_SIZES)
    tensor.dims[:] = dims


def tensor_data(model: Model, rng: random.Random) -> None:
    tensor = _pick(rng, [t for t in _tensors(model) if t.raw_data])
    if tensor is not None:
        data = tensor.raw_data
        tensor.raw_data = rng.choice((b"", data[: rng.randrange(len(data))], data + b"\0", data * 2, data[1:]))


def tensor_type(model: Model, rng: random.Random) -> None:
    tensor = _pick(rng, _tensors(model))
    if tensor is not None:
        tensor.data_type = rng.choice((*range(28), 99, -1))


def tensor_numbers(model: Model, rng: random.Random) -> None:
    """A float constant becomes NaN, infinite or huge, an integer one (an axis, a pad, a target) something hostile."""
    tensor = _pick(
        rng, [t for t in _tensors(model) if t.raw_data and t.data_type in (TensorProto.FLOAT, TensorProto.INT64)]
    )
    if tensor is None:
        return
    kind: Any = np.float32 if tensor.data_type == TensorProto.FLOAT else np.int64
    array = np.frombuffer(tensor.raw_data, kind).copy()
    if array.size:
        with np.errstate(over="ignore"):
            array[rng.randrange(array.size) if rng.random() < 0.7 else slice(None)] = rng.choice(
                _NUMBERS if kind is np.float32 else _SIZES
            )
        tensor.raw_data = array.tobytes()


def tensor_external(model: Model, rng: random.Random) -> None:
    tensor = _pick(rng, [t for t in _tensors(model) if t.external_data] or _tensors(model))
    if tensor is None:
        return
    old = {entry.key: entry.value for entry in tensor.external_data} or {"location": "weights.bin", "length": "64"}
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    key = rng.choice(("location", "offset", "length", "checksum"))
    number = rng.choice(("-1", "abc", "", "1e9", str(2**63), str(2**40), "0", "1", "13"))
    old[key] = rng.choice(_PATHS) if key == "location" else number
    if rng.random() < 0.2:
        del old[rng.choice(tuple(old))]
    for name, value in old.items():
        tensor.external_data.add(key=name, value=value)


def initializers(model: Model, rng: random.Random) -> None:
    """One is missing, there twice, named as another, or an input as well."""
    constants = model.graph.initializer
    if not constants:
        return
    at, change = rng.randrange(len(constants)), rng.randrange(4)
    if change == 0:
        del constants[at]
    elif change == 1:
        constants.append(constants[at])
    elif change == 2:
        constants[at].name = rng.choice((rng.choice(_value_names(model)), rng.choice(_NAMES)))
    else:
        model.graph.input.append(
            helper.make_tensor_value_info(constants[at].name, rng.randrange(17), [rng.choice(_SIZES)])
        )


def value_type(model: Model, rng: random.Random) -> None:
    value = _pick(rng, _values(model))
    if value is None:
        return
    change = rng.randrange(5)
    dims = value.type.tensor_type.shape.dim
    if change == 0:
        value.type.tensor_type.elem_type = rng.choice((*range(28), 99))
    elif change == 1:
        value.ClearField("type")
    elif change == 2:
        value.type.tensor_type.ClearField("shape")
    elif change == 3 or not dims:
        dims.add(dim_value=rng.choice(_SIZES))
    else:
        dim = rng.choice(dims)
        dim.Clear()
        if rng.random() < 0.7:
            dim.dim_value = rng.choice(_SIZES)
        else:
            dim.dim_param = rng.choice(("n", "m", "", "n+1"))


def interface(model: Model, rng: random.Random) -> None:
    """An input or output is gone, there twice, or something else."""
    ends = rng.choice((model.graph.input, model.graph.output))
    if not ends:
        return
    at, change = rng.randrange(len(ends)), rng.randrange(3)
    if change == 0:
        del ends[at]
    elif change == 1:
        ends.append(ends[at])
    else:
        ends[at].name = rng.choice((rng.choice(_value_names(model)), rng.choice(_NAMES)))


def node_list(model: Model, rng: random.Random) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    at, change = rng.randrange(len(nodes)), rng.randrange(4)
    if change == 0:
        del nodes[at]
    elif change == 1:
        nodes.append(nodes[at])
    elif change == 2:
        order = list(nodes)
        rng.shuffle(order)
        del nodes[:]
        nodes.extend(order)
    else:
        nodes[at].CopyFrom(rng.choice(nodes))


def node_ends(model: Model, rng: random.Random) -> None:
    """An input or output of a node is another value (a cycle, often), absent, or one too many."""
    node = _pick(rng, model.graph.node)
    if node is None:
        return
    ends = node.input if rng.random() < 0.75 else node.output
    name = rng.choice((rng.choice(_value_names(model)), *node.output, rng.choice(_NAMES)))
    if not ends or rng.random() < 0.25:
        ends.append(name)
    elif rng.random() < 0.25:
        del ends[rng.randrange(len(ends))]
    else:
        ends[rng.randrange(len(ends))] = name


def node_kind(model: Model, rng: random.Random) -> None:
    node = _pick(rng, model.graph.node)
    if node is None:
        return
    change = rng.randrange(4)
    if change <= 1:
        node.op_type = rng.choice(_OPS)
    elif change == 2:
        node.op_type = rng.choice(("", "Wavelet", "conv", "own", "a\nb"))
    else:
        node.domain = rng.choice(("ai.onnx", "com.microsoft", "com.acme", "ai.onnx.ml", "", "own"))
    if rng.random() < 0.2:
        node.name = rng.choice(_NAMES)


def attribute(model: Model, rng: random.Random) -> None:
    """Another value, another type, gone, or one that the op does not have."""
    nodes = [node for node in model.graph.node if node.attribute]
    node = _pick(rng, nodes)
    if node is None or rng.random() < 0.15:
        target = _pick(rng, model.graph.node)
        if target is not None:
            key = rng.choice(
                ("axis", "pads", "group", "strides", "kernel_shape", "bogus", "auto_pad", "perm", "to", "mode")
            )
            kind: Any = rng.choice(
                (rng.choice(_SIZES), [rng.choice(_SIZES) for _ in range(rng.randrange(6))], "SAME", 1.5)
            )
            target.attribute.append(_attribute(key, kind))
        return
    at = rng.randrange(len(node.attribute))
    found, change = node.attribute[at], rng.randrange(5)
    if change == 0:
        del node.attribute[at]
    elif change == 1:
        found.type = rng.choice(list(AttributeProto.AttributeType.values()))
    elif change == 2:
        new: Any = rng.choice((0, -1, 1.5, float("nan"), "text", [1, 2], [1.5], ["a"], [-1, 0]))
        found.CopyFrom(_attribute(found.name, new))
    elif found.ints:
        found.ints[rng.randrange(len(found.ints))] = rng.choice(_SIZES)
        if change == 4:
            found.ints.append(rng.choice(_SIZES))
    else:
        found.i, found.f = rng.choice(_SIZES), rng.choice(_NUMBERS)


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, list) and not value:
        return AttributeProto(name=name, type=AttributeProto.INTS)
    return helper.make_attribute(name, value)


def subgraphs(model: Model, rng: random.Random) -> None:
    """Graphs within graphs, a hundred deep; or a loop."""
    inner = copy.deepcopy(model.graph)
    deep = rng.choice((1, 3, 12))  # protobuf itself refuses more than about thirty
    for _ in range(deep):
        outer = helper.make_graph([helper.make_node("If", ["yes"], ["y"])], "deep", [], list(model.graph.output))
        for key in ("then_branch", "else_branch")[: rng.choice((1, 2)) if deep < 4 else 1]:
            outer.node[0].attribute.append(helper.make_attribute(key, inner))
        inner = outer
    if rng.random() < 0.3:
        inner.node[0].op_type = rng.choice(("Loop", "Scan", "SequenceMap"))
        for entry in inner.node[0].attribute:
            entry.name = "body"
    model.graph.node.append(inner.node[0])


def functions(model: Model, rng: random.Random) -> None:
    """A function that calls itself, another, or nothing that is there."""
    target = _pick(rng, model.graph.node)
    if target is None:
        return
    names = ("F0", "F1", "F2")
    for name in names:
        body = [helper.make_node(rng.choice((*names, "Relu", "Missing")), ["a"], ["b"], domain=rng.choice(("own", "")))]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", name, ["a"], ["b"], body, imports))
    target.op_type, target.domain = rng.choice(names), "own"
    if rng.random() < 0.8:
        model.opset_import.append(helper.make_opsetid("own", 1))


def versions(model: Model, rng: random.Random) -> None:
    change = rng.randrange(5)
    if change == 0:
        model.ir_version = rng.choice((0, 1, 3, 7, 12, 999, -1))
    elif change == 1:
        del model.opset_import[:]
    elif change == 2:
        model.opset_import.append(helper.make_opsetid(rng.choice(("", "ai.onnx", "com.acme")), rng.randrange(30)))
    elif model.opset_import:
        model.opset_import[0].version = rng.choice((-1, 0, 1, 5, 7, 9, 11, 13, 17, 21, 25, 99, 2**40))


FIELDS: tuple[Mutation, ...] = (
    tensor_dims, tensor_data, tensor_type, tensor_numbers, tensor_external, initializers, value_type, interface,
    node_list, node_ends, node_kind, attribute, subgraphs, functions, versions,
)  # fmt: skip


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut short, with bytes changed, or with a piece of itself elsewhere."""
    if not data:
        return data
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data))]
    damaged = bytearray(data)
    # Structure is at the ends of a file; its middle is weights.
    edge = min(len(damaged), 2000)
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        at = rng.randrange(edge) if rng.random() < 0.5 else len(damaged) - 1 - rng.randrange(edge)
        change = rng.randrange(4)
        if change == 0:
            damaged[at] = rng.randrange(256)
        elif change == 1:
            damaged[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            damaged[at : at + 5] = rng.choice(
                (b"\xff" * 10 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\0", b"\x80\x80\x80\x80\x01")
            )
        else:
            start = rng.randrange(len(damaged))
            damaged[at:at] = damaged[start : start + rng.randrange(64)]
    return bytes(damaged)


def mutant(seed: Seed, index: int) -> tuple[str, bytes]:
    """(what was done, the file) of one index; always the same."""
    rng = random.Random(f"{seed.name}-{index}")
    whole = seed.model.SerializeToString()
    if rng.random() < 0.25:
        return "bytes", damage_bytes(whole, rng)
    model = onnx.ModelProto.FromString(whole)
    done = []
    try:
        for mutation in rng.choices(FIELDS, k=rng.choice((1, 1, 1, 2, 3))):
            mutation(model, rng)
            done.append(mutation.__name__)
        return "+".join(done), model.SerializeToString()
    except (EncodeError, DecodeError, ValueError):  # what protobuf itself does not write
        return "bytes", damage_bytes(whole, rng)


__all__ = ["FIELDS", "damage_bytes", "mutant"]
